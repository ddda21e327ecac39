"""What goes wrong with the Hub, in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..ip2p_pipeline.errors import first_line

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@contextmanager
def told(repo: str) -> Iterator[None]:
    """Raise what the Hub's client raises as ValueError, FileNotFoundError, PermissionError or ConnectionError."""
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise unreachable(error) from error
    except GatedRepoError as error:
        raise PermissionError(f"{repo} is gated: ask for access on its page, then {LOGIN}.") from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repo} has no such revision: look at its branches and tags.") from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"{repo} lacks a file that it should have ({first_line(error)}).") from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no {repo} on the Hub, or it is private: check the name, or {LOGIN}."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(f"{repo} needs the network, and HF_HUB_OFFLINE is set: unset it.") from error
    except HfHubHTTPError as error:
        raise refused(repo, error) from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise unreachable(error) from error


def unreachable(error: Exception) -> ConnectionError:
    """What is told where the network fails."""
    return ConnectionError(f"The Hub can't be reached ({first_line(error)}): the same command goes on when it can.")


def refused(repo: str, error: HfHubHTTPError) -> Exception:
    """An answer of the Hub that is an error."""
    status = error.response.status_code
    if status == 401:
        return PermissionError(f"The Hub does not know you: {LOGIN}, with a token that may write to {repo}.")
    if status == 403:
        return PermissionError(f"Your token may not do this with {repo}: use one with the right to write there.")
    if status == 429:
        return ConnectionError("The Hub asks to wait, it had too many requests: try again in some minutes.")
    if status >= 500:
        return ConnectionError(f"The Hub has trouble of its own ({status}): try again later; the same command goes on.")
    return ValueError(f"The Hub refuses this ({status}): {first_line(error)}.")
