"""The service behind an OpenAI-compatible API: its key, its errors as sentences, and patience with it."""

import logging
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import openai

OPENAI = "api.openai.com"
ATTEMPTS = 8
"""Times that a request is sent before the service is given up, where nothing else is answered meanwhile."""
LONGEST_BACKOFF = 60.0
"""Seconds between two attempts at most, unless the service asks for more."""
LONGEST_WAIT = 24 * 3600.0
"""Seconds: a service that asks to come back later than this is not waited for."""
TOLD_WAIT = 30.0
"""Seconds: longer waits are told to the user."""
CONTENT_CODES = ("content_filter", "content_policy_violation")
"""Errors by which services turn away one request for what it says, instead of answering with a refusal."""

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class ServiceError(OSError):
    """What the service can't or won't do, in a sentence without the key."""


class GivenUpError(ServiceError):
    """A service that failed again and again at the same request."""


@dataclass(kw_only=True)
class ServiceSettings:
    """Which service, and how it is asked."""

    model: str
    """Model of the service."""
    base_url: str | None = None
    """Address of an OpenAI-compatible service, such as http://127.0.0.1:8080/v1. Default: OPENAI_BASE_URL, else
    OpenAI's own. The key is OPENAI_API_KEY in the environment."""
    timeout: float = 120.0
    """Seconds to wait for an answer before it is asked for again."""
    backoff: float = 1.0
    """Seconds before the second attempt at a request that failed; doubled for each further one, up to a minute. A
    longer Retry-After of the service holds."""

    def __post_init__(self) -> None:
        for name in ("timeout", "backoff"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"--{name} must be a number of seconds above 0, not {value}.")

    def address(self) -> str:
        """Where the service is."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or f"https://{OPENAI}/v1"

    def is_openai(self) -> bool:
        """Whether the service is OpenAI's own."""
        return urlsplit(self.address()).hostname == OPENAI

    def client_options(self) -> dict[str, Any]:
        """What the official client is made with. It makes no attempts of its own: it gives up after two minutes of
        Retry-After, and would ask again for what was paid for.

        Raises ValueError where the address is none, or no key is there for a service that needs one.
        """
        address = urlsplit(self.address())
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("--base-url must be an address such as http://127.0.0.1:8080/v1.")
        if address.username or address.password:  # the client's libraries log addresses
            raise ValueError("--base-url must not hold a name or a password: the key is OPENAI_API_KEY.")
        if not key() and self.is_openai():
            raise ValueError("OpenAI needs a key: set the environment variable OPENAI_API_KEY.")
        if not all("!" <= letter <= "~" for letter in key()):
            raise ValueError("OPENAI_API_KEY holds characters that no key has: set it again.")
        return {"base_url": self.address(), "api_key": key() or "none", "timeout": self.timeout, "max_retries": 0}


def key() -> str:
    """The key in the environment, or an empty text."""
    return os.environ.get("OPENAI_API_KEY", "").strip()


def without_key(text: str) -> str:
    """A text of the service's, in which it may have repeated the key."""
    return text.replace(key(), "(the key)") if key() else text


def reason(error: openai.OpenAIError) -> str:
    """What the service, or the way to it, says is wrong: on one line, without the key."""
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        text = body.get("message") or error.response.reason_phrase
        return without_key(f"HTTP {error.status_code}: {' '.join(str(text).split()).rstrip('.')}")
    if isinstance(error, openai.APITimeoutError):
        return "no answer in time"
    return without_key(str(error.__cause__ or error).strip().rstrip(".") or "the connection broke")


def is_passing(error: openai.OpenAIError) -> bool:
    """Whether the same request may succeed later: rate limits, the service's own errors, time-outs, connections."""
    if not isinstance(error, openai.APIStatusError):
        return True
    return error.code != "insufficient_quota" and (error.status_code in (408, 409, 429) or error.status_code >= 500)


def is_refusal(error: openai.OpenAIError) -> bool:
    """Whether the service turned away this one request, for what it says."""
    return isinstance(error, openai.BadRequestError) and error.code in CONTENT_CODES


def lasting(error: openai.OpenAIError, model: str) -> ServiceError:
    """The sentence for an error that asking again won't help."""
    if isinstance(error, openai.AuthenticationError):  # the service's own message may repeat a part of the key
        return ServiceError("The service does not accept the key: check the environment variable OPENAI_API_KEY.")
    if isinstance(error, openai.PermissionDeniedError):
        return ServiceError(f"The key may not use {model} here ({reason(error)}).")
    if isinstance(error, openai.NotFoundError):
        return ServiceError(f"The service knows no model {model} or is at another address ({reason(error)}).")
    if isinstance(error, openai.RateLimitError):
        return ServiceError(f"The account's quota is used up ({reason(error)}). Answers are kept: run again to go on.")
    return ServiceError(f"The service turns the request away ({reason(error)}).")


def seconds_to_wait(error: openai.OpenAIError, failures: int, backoff: float) -> float:
    """How long to wait after this many failures: doubling from `backoff` with jitter, or what the service asks for.

    Raises ServiceError where that is more than a day.
    """
    own = min(LONGEST_BACKOFF, backoff * 2 ** (failures - 1)) * random.uniform(0.5, 1)
    told = retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else 0.0
    if told > LONGEST_WAIT:
        raise ServiceError(
            f"The service asks to come back in {told / 3600:.0f} hours ({reason(error)}). "
            "Answers are kept: run again to go on."
        )
    if told > TOLD_WAIT:
        logger.warning("The service asks to wait until %s.", time.strftime("%X", time.localtime(time.time() + told)))
    return max(own, told)


def retry_after(headers: Any) -> float:
    """Seconds that a response's headers ask to wait, 0 where they don't: a number or a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except ValueError:
        return 0.0


def pause(error: openai.OpenAIError, failures: int, settings: ServiceSettings) -> float:
    """Seconds to wait before the attempt after `failures`. Raises ServiceError where another one would not help."""
    if not is_passing(error):
        raise lasting(error, settings.model) from None
    if failures == ATTEMPTS:
        raise GivenUpError(
            f"The service failed {failures} times in a row ({reason(error)}). Answers are kept: run again to go on."
        ) from None
    if failures == 3:
        logger.warning("The service fails (%s); it is tried again.", reason(error))
    return seconds_to_wait(error, failures, settings.backoff)


def patiently(call: Callable[P, T], settings: ServiceSettings, *args: P.args, **kwargs: P.kwargs) -> T:
    """What a call of the service gives, after as many attempts as it takes, up to ATTEMPTS. Raises ServiceError."""
    failures = 0
    while True:
        try:
            return call(*args, **kwargs)
        except openai.OpenAIError as error:
            failures += 1
            time.sleep(pause(error, failures, settings))
