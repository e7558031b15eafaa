"""One thread for what blocks. A ThreadPoolExecutor does the same; a hop to it and back costs half as much again."""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Job = Callable[[], None]


class Worker:
    """Does one job after the other, in a thread that is there from the first one on."""

    def __init__(self, name: str) -> None:
        """Nothing runs yet."""
        self._jobs: SimpleQueue[tuple[Job, Callable[[BaseException | None], None]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)

    async def run(self, job: Job) -> None:
        """Have it done; raises what it raises. A wait that is cancelled does not stop the job."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def ended(error: BaseException | None) -> None:
            loop.call_soon_threadsafe(_resolve, done, error)

        self._put(job, ended)
        await done

    def submit(self, job: Job) -> None:
        """Have it done; it must not raise."""
        self._put(job, _forget)

    def close(self) -> None:
        """Return when everything that was asked for is done; nothing may be asked for after it."""
        if self._thread.ident is not None:
            self._jobs.put(None)
            self._thread.join()

    def _put(self, job: Job, ended: Callable[[BaseException | None], None]) -> None:
        if self._thread.ident is None:
            self._thread.start()
        self._jobs.put((job, ended))

    def _work(self) -> None:
        while (wanted := self._jobs.get()) is not None:
            job, ended = wanted
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                ended(error)
            else:
                ended(None)


def _resolve(done: "asyncio.Future[None]", error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _forget(_error: BaseException | None) -> None:
    pass
