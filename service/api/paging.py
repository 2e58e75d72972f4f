"""The header `Link` of an answer that is one page of a list (RFC 8288)."""

from urllib.parse import urlencode

from pydantic import BaseModel

from service.api.context import ApiContext


def next_page(context: ApiContext, path: str, query: BaseModel, **more: object) -> dict[str, str]:
    """The header that names the next page.

    Args:
        context: Whose root path comes before `path`.
        path: Of the list.
        query: As this page was asked for.
        **more: The parameters in which the next page differs.
    """
    asked = {**query.model_dump(mode="json", exclude_unset=True, exclude_none=True), **more}
    url = f"{context.spec.root_path}{path}?{urlencode(asked, doseq=True)}"
    return {"Link": f'<{url}>; rel="next"'}
