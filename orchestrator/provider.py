"""The contract of a provider: pure builders and readers around one upstream API.

A provider is one file in `orchestrator/providers/`. Among the attributes, and again among the methods, what a
subclass must give stands first, what it may give second. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError

from orchestrator.errors import Malformed, ProviderError, Uncertain, Unsupported
from orchestrator.models import Account, Reply, Report, Request, Submission


class Parameters(Schema):
    """Base of every provider's parameters: what is not declared is refused."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012
        "unknown": "This provider has no such parameter.",
        "type": "The parameters must be a mapping of names to values.",
    }


class Provider(ABC):
    """One upstream API, translated. Every member is pure and safe to call twice."""

    # What it must say. The last two `of` may change for one account:
    name: ClassVar[str]  # as in the accounts file, the callback URL and the file name
    docs_url: ClassVar[str]
    base_url: ClassVar[str]
    schema: ClassVar[type[Parameters]]  # of the parameters a caller may send
    prompt_parameter: ClassVar[str]  # which of them is the prompt
    signs: ClassVar[bool]  # whether its callbacks are signed
    calls_back: bool
    # Where its pictures are, beside the host of `base_url`: an exact host, or `.suffix` for all below it.
    artifact_hosts: tuple[str, ...]

    # What it may say:
    # Which parameters moderation judges: the prompt first, then images that go in. Empty: the prompt alone.
    content_parameters: ClassVar[tuple[str, ...]] = ()
    synchronous: ClassVar[bool] = False  # the answer to the submit is the outcome: nothing to poll
    repeatable_submit: ClassVar[bool] = False  # a submit costs nothing: one whose answer is lost is repeated
    # What an account of it may say beyond the common: name → str, int …; a StrEnum of the words; or Secret.
    account_fields: ClassVar[Mapping[str, type]] = {}
    account_defaults: ClassVar[Mapping[str, float]] = {}  # its own defaults of the common numbers
    min_poll_seconds: ClassVar[float] = 0.0  # the provider allows no quicker pace of polling one generation
    # How long an artifact URL lives, at least. By default an hour, the shortest that was seen written for
    # pictures: https://replicate.com/docs/topics/webhooks
    artifact_seconds: ClassVar[float] = 3600.0

    @abstractmethod
    def submit_request(
        self, parameters: Mapping[str, Any], account: Account, reference: str, callback_url: str | None
    ) -> Request:
        """The request that starts a generation. `callback_url` None: it will be polled."""

    @abstractmethod
    def poll_request(self, upstream_id: str, account: Account) -> Request | None:
        """The request that asks how a generation is doing; None where the provider cannot be asked."""

    @abstractmethod
    def read_report(self, body: Any) -> Report:
        """What the parsed body of a poll answer or of a callback tells.

        Raises: Malformed where it is no such body. An unknown status is `Pending(known=False)`.
        """

    @abstractmethod
    def read_error(self, reply: Reply) -> ProviderError:
        """The error behind an answer with status 400 or above. 5xx is `Unavailable`."""

    def read_submission(self, reply: Reply) -> Submission:
        """What the answer (status below 400) to `submit_request` says: by default, what a poll would be told.

        Raises: Uncertain where it cannot be read, since the generation may have started.
        """
        try:
            report = self.read_report(reply.body)
        except Malformed as malformed:
            words = f"answered {reply.status}, but with {malformed}"
            raise Uncertain(words, http_status=reply.status) from malformed
        return Submission(report.upstream_id, report.outcome)

    def of(self, account: Account) -> Provider:
        """The provider as this account describes it; itself, where accounts describe nothing of it."""
        return self

    def account_faults(self, fields: Mapping[str, Any]) -> Sequence[str]:
        """What is wrong with an account's own fields beyond their types, each fault with its cure."""
        return ()

    def verify(  # noqa: B027
        self, headers: Mapping[str, str], raw_body: bytes, account: Account, now: float
    ) -> None:
        """Check the provider's own signature of a callback; `now` in unix seconds.

        Raises: CallbackRefused. Providers that do not sign leave this as it is.
        """

    def delivery_id(self, headers: Mapping[str, str]) -> str | None:
        """What the provider calls this delivery of a callback; a second one of the same id is a replay."""
        return None

    def check(self, parameters: Mapping[str, Any], accounts: Sequence[Account]) -> None:
        """Refuse what the schema cannot see; `accounts`: this provider's, as far as they are known here.

        Raises: Unsupported or Invalid, with the cure.
        """
        return None

    def translate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """A portable request, as `PortableRequest` loads it, in this provider's own parameters.

        The schema has yet to check them. Raises: Unsupported for what it cannot do, with the cure.
        """
        raise Unsupported(
            f"{self.name} takes no portable request: ask it by itself, in its own parameters "
            f"({self.docs_url}), or leave {self.name} out"
        )

    def artifact_dies_at(self, url: str, told_at: float) -> float:
        """Until when an artifact URL that was told then will be answered; unix seconds."""
        return told_at + self.artifact_seconds

    def model(self, parameters: Mapping[str, Any]) -> str:
        """What decides how long a generation takes; durations are learned for each."""
        return str(parameters.get("model", ""))

    def pins(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Account fields this job insists on, such as `{"email": …}`; empty: any account will do."""
        return {}

    def cancel_request(self, upstream_id: str, account: Account) -> Request | None:
        """The request that stops a generation; None where the provider cannot."""
        return None

    def search_requests(self, account: Account) -> Sequence[Request]:
        """Requests that list what the provider took lately; empty where it cannot be asked."""
        return ()

    def read_search(self, body: Any, since: float = 0.0) -> Mapping[str, str]:
        """Reference → upstream id, from the answer to one of `search_requests`.

        Left out is what it says to have been made before `since`; unix seconds.
        """
        return {}

    def history_request(self, account: Account, page: int) -> Request | None:
        """The request for one page (from 0) of all that the provider took; None after the last one."""
        return None

    def read_history(self, body: Any) -> Sequence[Report]:
        """What an answer to `history_request` tells of those that carry a reference."""
        return ()

    def content(self, parameters: Mapping[str, Any]) -> str:
        """What moderation judges, as 32 hex digits; the prompt's case and spacing do not count."""
        prompt, *others = self.content_parameters or (self.prompt_parameter,)
        judged = {name: parameters[name] for name in others if name in parameters}
        judged[prompt] = " ".join(str(parameters.get(prompt, "")).casefold().split())
        canonical = json.dumps(judged, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    @property
    def kind(self) -> str:
        """How an outcome comes: callback, poll or synchronous."""
        if self.synchronous:
            return "synchronous"
        return "callback" if self.calls_back else "poll"


# What a schema is made of:


def ours(_: Any) -> None:
    """Validates a field that is declared only so that the refusal can say why. Raises: ValidationError."""
    raise ValidationError("The orchestrator sets this itself: leave it out.")


# What a `translate` is made of:


def aspect_ratio(provider: str, request: Mapping[str, Any], takes: Collection[str]) -> str | None:
    """The aspect ratio asked for; None: none is. Raises: Unsupported where this provider takes others."""
    ratio: str | None = request.get("aspect_ratio")
    if ratio is None or ratio in takes:
        return ratio
    raise Unsupported(
        f"{provider}: aspect_ratio = {ratio!r}: it takes {', '.join(takes)}. "
        f"Ask for one of these, or leave {provider} out"
    )


def prompt_and_style(request: Mapping[str, Any], styles: Collection[str] = ()) -> tuple[str, str | None]:
    """The prompt, and which of the provider's own styles is meant; None: none, or the prompt says it."""
    prompt, style = request["prompt"], request.get("style")
    if style is None:
        return prompt, None
    for known in styles:
        if _plain(known) == _plain(style):
            return prompt, known
    return f"{prompt.rstrip()}, in {' '.join(style.replace('_', ' ').split())} style", None


def _plain(style: str) -> str:
    return " ".join(style.replace("_", " ").replace("-", " ").casefold().split())


def given(**parameters: Any) -> dict[str, Any]:
    """The parameters that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}
