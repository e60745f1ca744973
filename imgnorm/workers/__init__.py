"""The pool of worker processes: units in, a tally out, and no image can end the scan.

`executor.py` says what an executor is: a function from units to a tally. `pool.in_processes` makes the one
of worker processes. It hands units to a queue while the source still lists them, and starts one driver
for each worker. A driver is a thread: it takes a task from the queue, sends its unit to its worker process
as a job, waits for the tally and reports it. The thread that scans adds the tallies up. Where a device
counts, the tally comes with pixels in shared memory, which the driver hands to the device.

pool.py: the scan. work_queue.py: what is left to do, and outcomes. driver.py: one thread for each worker.
process.py: a worker as its driver sees it. worker.py: the program of a worker. forkserver.py: where workers
come from on Linux. messages.py: what they exchange. heartbeat.py: shared memory. memory.py: how much all
of them may take. this_process.py: the executor for a source that worker processes cannot have. ray.py:
the one of a cluster, with a pool on each node.

A unit with names is cut into tasks. One without goes whole to one worker, which reads it in one pass;
what it counts is final when the unit ends. Where other workers have nothing to do, it lists the unit
instead, and hands it back with names.

A worker is *starting* until it has imported what it needs and opened its source, *ready* while it
waits for a job, *busy* while it counts. It is *timed out* if it stays at one image for too long: it is
killed then, and so *dead*. A dead worker is reaped and replaced, and the image that it was at, which
the heartbeat shows, is tried once more, alone. The second time, the image is listed as skipped.

May import the packages before it. The parent process loads neither NumPy nor Pillow. Another executor is
a module beside pool.py, chosen in measuring/routes.py.
"""
