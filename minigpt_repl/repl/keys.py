"""Keys that differ from prompt_toolkit's own: Enter, Alt-Enter and ^C."""

from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, get_common_complete_suffix
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import emacs_insert_mode, has_focus, vi_insert_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from minigpt_repl.repl.dispatch import whole_input


def make_keys() -> KeyBindings:
    """Key bindings of the line editor, for emacs and vi keys."""
    keys = KeyBindings()
    is_inserting = emacs_insert_mode | vi_insert_mode
    at_line = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=at_line)
    def _(event: KeyPressEvent) -> None:
        """Send the line; in an open block, begin another."""
        buffer = event.current_buffer
        if whole_input(buffer.text) is None:
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("tab", filter=at_line & is_inserting)
    def _(event: KeyPressEvent) -> None:
        """Complete as far as it is certain, then offer the rest."""
        buffer = event.current_buffer
        if buffer.complete_state is not None:
            buffer.complete_next()
            return
        # prompt_toolkit's own forgets the key while it looks for what to offer.
        document = buffer.document
        asked = CompleteEvent(completion_requested=True)
        found = list(buffer.completer.get_completions(document, asked))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif found:
            buffer.insert_text(get_common_complete_suffix(document, found))
            buffer.start_completion()

    @keys.add("escape", "enter", filter=at_line & is_inserting)
    def _(event: KeyPressEvent) -> None:
        """A new line in the prompt."""
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c", filter=at_line)
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        """Clear the line; on an empty one, let the loop decide."""
        buffer = event.app.current_buffer
        if get_app().layout.has_focus(DEFAULT_BUFFER) and buffer.text:
            buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    return keys
