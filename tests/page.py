"""HTML, read back."""

from html.parser import HTMLParser

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that tags are closed, and keeps text and what is referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.text, self.links, self.tags = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
