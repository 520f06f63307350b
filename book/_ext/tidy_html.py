"""A small Sphinx extension: what the theme and its helpers get wrong in the finished pages.

- Thebe, which runs code in the page by way of a CDN, is not used: its scripts go, which Sphinx
  lists twice and whose second declaration is an error in every page;
- docutils gives entries of a bibliography a role that is no item of a list, and that ARIA has
  given up.
"""

from __future__ import annotations


def tidy(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    def thebe(file) -> bool:
        attributes = getattr(file, "attributes", {})
        return "thebe" in f"{getattr(file, 'filename', file)} {attributes.get('body', '')}"

    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if not thebe(file)]
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app) -> dict:
    app.connect("html-page-context", tidy, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
