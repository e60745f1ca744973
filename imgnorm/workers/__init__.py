"""The pool of worker processes: names of images -> tallies, and no image can end the scan.

`pool.scanning` cuts the names into batches and starts one driver for each worker. A driver is a
thread: it takes a task from the queue, sends its names to its worker process as a job, waits for the
tally and reports it. The thread that scans adds the tallies up. Where a device counts, the tally comes
with pixels in shared memory, which the driver hands to the device.

pool.py: the scan. driver.py: one thread for each worker. work_queue.py: what is left to do, and
outcomes. process.py: a worker as its driver sees it. worker.py: the program of a worker. forkserver.py:
where workers come from on Linux. messages.py: what they exchange. heartbeat.py: shared memory.
memory.py: how much all of them may take.

A worker is *starting* until it has imported what it needs and opened its source, *ready* while it
waits for a job, *busy* while it counts. It is *timed out* if it stays at one image for too long: it is
killed then, and so *dead*. A dead worker is reaped and replaced, and the image that it was at, which
the heartbeat shows, is tried once more, alone. The second time, the image is listed as skipped.

May import the packages before it: documents, tally, sources and pixels. The parent process loads
neither NumPy nor Pillow, so pixels modules that need them are imported in the worker only.
Another way to run tasks (a cluster, say) is a module beside pool.py with a function like `scanning`,
chosen in measuring/routes.py.
"""
