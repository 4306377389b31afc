"""What a distillation method is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import BeforeValidator, ConfigDict, Field
from torch import Tensor

from distilset.task import Task

STRICT = ConfigDict(strict=True, extra="forbid")
"""How a method's own settings are validated: ``@dataclass(frozen=True, config=STRICT)``."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Power = Annotated[float, Field(gt=0, le=16)]
Layers = Annotated[
    tuple[int, ...] | None, BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)
]

Update = Iterable[Float[Tensor, ""]]
"""The loss of one image update, in parts; each part is sent backward as soon as it is there."""


@runtime_checkable
class Episodes(Protocol):
    """What the loop needs of a method: image updates, one network at a time."""

    def episode(self, images: Float[Tensor, "n c h w"], step: int) -> Iterator[Update]:
        """Yield the image updates made with one network; each is an iterable of loss parts.

        ``images`` are the leaf tensor that is optimised, the stored ones. All randomness comes from
        the task and ``step``, and nothing is remembered between episodes, so that a run can stop
        and resume.
        """
        ...


@runtime_checkable
class Method(Episodes, Protocol):
    """A distillation method, made once for a run and asked for one episode at a time.

    ``Config`` is a frozen pydantic dataclass of the method's own settings; ``defaults`` are run
    settings by section (``{"distill": {"batch_real": 256}}``) that stand unless somebody says
    otherwise. ``notes`` are sentences for the plan, e.g. of statistics that were left out. One that
    has ``decodes = True`` gives networks ``task.decode`` of stored images; without it a factor
    above 1 is refused. So are optional: ``draws_real = False`` of one whose steps see no real
    images, ``images_per_step`` where networks see others than all synthetic ones and a real batch
    once, ``held_bytes`` of memory beyond a pass of images, and ``differentiates_twice = True``,
    which takes more of it for every image of a pass.
    """

    Config: ClassVar[type]
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(self, config: Any, task: Task) -> None: ...

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the plan and the card."""
        ...
