"""The pages of a server, in a real browser."""

from playwright.sync_api import expect

from tests.e2e.browser import needs_browser, opened
from tests.e2e.drive import Server


@needs_browser
def test_docs_show_the_api_and_send_requests_without_asking_any_other_site(server: Server) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    with opened() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{server.url}/docs")
        expect(page.get_by_role("heading", name="Tidemill")).to_be_visible()
        expect(page.get_by_text("/v0/jobs/{name}/executions", exact=True).first).to_be_visible()

        page.get_by_role("button", name="Authorize").click()
        page.get_by_role("textbox", name="auth-bearer-value").fill(server.credentials["BL_API_KEY"])
        page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").first.click()
        page.locator(".modal-ux .close-modal").click()
        page.get_by_text("List the workspaces that the credential reaches", exact=True).click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
        expect(page.locator(".live-responses-table")).to_contain_text('"name": "default"')
    assert complaints == []
    assert [url for url in asked if not url.startswith((f"{server.url}/", "data:", "blob:"))] == []
    assert f"{server.url}/v0/workspaces" in asked
