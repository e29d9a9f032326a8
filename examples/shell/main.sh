#!/bin/sh
# One task: greet somebody, as often as its arguments say.
#
# TIDEMILL_TASK_FILE    the task's own arguments, a JSON object: {"name": "Ada", "times": 2}
# TIDEMILL_RESULT_FILE  JSON written there becomes the task's result
set -eu

arguments=$(cat "$TIDEMILL_TASK_FILE")
echo "arguments: $arguments"

# sed is enough for flat objects whose strings hold no quotes; take jq or Python for more
name=$(printf '%s' "$arguments" | tr -d '\n' | sed -n 's/.*"name" *: *"\([^"]*\)".*/\1/p')
times=$(printf '%s' "$arguments" | tr -d '\n' | sed -n 's/.*"times" *: *\([0-9][0-9]*\).*/\1/p')

if [ -z "$name" ]; then
    echo 'this task has no "name" among its arguments' >&2
    exit 1
fi

count=0
while [ "$count" -lt "${times:-1}" ]; do
    echo "Hello, $name!"
    count=$((count + 1))
done

if [ -n "${TIDEMILL_RESULT_FILE:-}" ]; then
    printf '{"name": "%s", "greetings": %d}\n' "$name" "$count" >"$TIDEMILL_RESULT_FILE"
fi
