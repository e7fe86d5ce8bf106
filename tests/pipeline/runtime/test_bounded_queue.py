"""Channels between threads: bounded, and over when the run is."""

from __future__ import annotations

import threading

import pytest

from pipeline.runtime.bounded_queue import Channel, Stopped


def test_a_channel_holds_no_more_than_its_capacity() -> None:
    stop = threading.Event()
    channel: Channel[int] = Channel(2, stop)
    put: list[int] = []

    def produce() -> None:
        for number in range(10):
            channel.put(number)
            put.append(number)
        channel.close()

    producer = threading.Thread(target=produce)
    producer.start()
    producer.join(0.5)
    assert put == [0, 1]
    assert list(channel) == list(range(10))
    producer.join()


def test_a_run_that_ends_early_frees_who_waits_and_loses_nothing_that_was_put() -> None:
    stop = threading.Event()
    channel: Channel[int] = Channel(2, stop)
    channel.put(1)
    channel.put(2)
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        channel.put(3)
    taken = []
    with pytest.raises(Stopped):
        for number in channel:
            taken.append(number)
    assert taken == [1, 2]
