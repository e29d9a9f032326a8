"""What happens next: looks at the store, plans, acts. The only caller of engines."""
