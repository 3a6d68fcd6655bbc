"""Where a page is. Not by Playwright's globs: `**/label` is true of `/who?next=/label` as well, so a script that waits
with it goes on while the sign-in is still under way, and its next step and the page's race."""

from __future__ import annotations

from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from playwright.sync_api import Page


def wait_for_path(page: Page, path: str) -> None:
    """Until the page at `path` (with * and ? as in file names; no query) is there and loaded."""
    page.wait_for_url(lambda url: fnmatchcase(urlsplit(url).path, path))
