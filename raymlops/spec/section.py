"""What every section of a spec is: frozen, with no unknown key. Knows none of them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Name", "Section", "SectionError"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]


class SectionError(ValueError):
    """What does not fit together in a section, one sentence a problem, each beginning with its place and a colon."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Section(BaseModel):
    """Refuse unknown keys; never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
