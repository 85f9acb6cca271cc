"""What libraries print is held back, and nothing else is."""

import os
import threading
import time

from qdebug.models.quiet import quietly


def test_two_threads_that_hold_back_at_once_leave_the_output_as_it_was(capfd):
    """The second begins before the first ends: both would otherwise put the other's file in standard output's place."""

    def loud(begin: float, last: float) -> None:
        time.sleep(begin)
        with quietly():
            os.write(1, b"held back\n")
            time.sleep(last)

    threads = [threading.Thread(target=loud, args=times) for times in ((0.0, 0.2), (0.1, 0.3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"seen\n")

    assert capfd.readouterr().out == "seen\n"
