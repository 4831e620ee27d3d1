"""The speed of the memory, as far as it can be checked: it is a speed, and it is one of this world."""

from tanuki_cli.machine.bandwidth import memory_bandwidth


def test_the_memory_gives_what_memory_can_give() -> None:
    assert 1e8 < memory_bandwidth(1) < 1e13
    assert 1e8 < memory_bandwidth(64) < 1e13
