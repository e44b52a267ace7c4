"""What schemathesis sends is what it has drawn."""

from typing import Any

import hypothesis
import schemathesis

from tests.api_hooks import quoted_as_drawn


def test_what_is_like_a_quoted_character_is_sent_as_the_text_that_it_is() -> None:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^%0A$"}}
    operation = {"parameters": [name], "responses": {"200": {"description": "it"}}}
    document = {"openapi": "3.1.0", "info": {"title": "", "version": "1"}, "paths": {"/{name}": {"get": operation}}}
    sent = set()

    @hypothesis.settings(max_examples=5, database=None)
    @hypothesis.given(schemathesis.openapi.from_dict(document)["/{name}"]["GET"].as_strategy())
    def draw(case: Any) -> None:
        sent.add(case.formatted_path)

    draw()
    assert sent == {"/%250A"}
    assert quoted_as_drawn({"name": "50%", "number": 7}) == {"name": "50%25", "number": 7}
