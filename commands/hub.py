"""`ip2p hub publish`, `space` and `pull`: to the Hub and from it, as commands."""

from ..hub.settings import PublishSettings, PullSettings, SpaceSettings
from .report import say


def publish(settings: PublishSettings) -> int:
    """Publish, or list what would be. Gives the exit status."""
    from ..hub.publish import publish
    from .models import quiet

    quiet()
    address = publish(settings, say)
    if address is not None:
        say(address)
    return 0


def space(settings: SpaceSettings) -> int:
    """Publish the page, or list what would be. Gives the exit status."""
    from ..hub.publish import publish_space
    from .models import quiet

    quiet()
    address = publish_space(settings, say)
    if address is not None:
        say(address)
    return 0


def pull(settings: PullSettings) -> int:
    """Fetch, and tell where it is. Gives the exit status."""
    from ..hub.pull import pull

    say(str(pull(settings, say)))
    return 0
