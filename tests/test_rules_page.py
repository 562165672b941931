"""docs/rules.md tells every rule as the program has it."""

from pathlib import Path

from minigpt_repl.sampling.chain import STAGES

PAGE = Path(__file__).parent.parent / "docs" / "rules.md"


def test_every_rule_has_its_section_with_formula_parameters_and_picture():
    page = PAGE.read_text(encoding="utf-8")
    _, *sections = page.split("\n## ")
    assert [section.split("\n")[0] for section in sections] == list(STAGES)
    for stage, section in zip(STAGES.values(), sections, strict=True):
        assert f"`{stage.formula.replace('`', '')}`" in section
        assert f"{stage.story} {stage.use}" in section and "```\n" in section
        assert section.count("\n- `") == len(stage.parameters)
