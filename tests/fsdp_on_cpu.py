"""The `ip2p` command with FSDP on CPUs, as the environment says; accelerate itself keeps it for accelerators."""

import sys
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from ip2p.cli import main

begin = AcceleratorState.__init__


def begin_with_fsdp(self: AcceleratorState, *given: Any, **options: Any) -> None:
    known = bool(AcceleratorState._shared_state)
    begin(self, *given, **options)
    if not known:
        self.fsdp_plugin = options["fsdp_plugin"]
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    AcceleratorState.__init__ = begin_with_fsdp
    sys.exit(main())
