"""Counting on a CUDA device, in integers: the tally is the one that the CPU gives.

The way of the data:

1. `device.find` turns a name ("cuda:1", "auto") into a device, and `CudaDevice` makes its counters.
2. Workers, or a `Sender` of this process, pack 8-bit images into a buffer (`pixels/buffer.py`). Each
   `counter.DeviceCounter` sends buffers to the device. Files are decoded there by `nvjpeg`.
3. A kernel gives one histogram for all images of a batch, and Σx and Σx² of each image: torch's own
   operations (`kernel`), or Triton's (`triton_kernel`), which needs less memory and is used where it
   counts the same.
4. `counter.Counts` keeps the results on the device, compares histograms with sums, and hands out tallies.

`tensors.TensorCounter` takes steps 3 and 4 for tensors that lie on a device already. `errors` turns
CUDA's errors into DeviceError. Where the device has too little memory, batches get smaller.

Imports: packages to the left (pixels, tally, ...), torch, NumPy; Triton in `triton_kernel` alone;
TorchCodec and Pillow in `nvjpeg`. Nothing imports this package before a device is asked for.
A new kernel is a function like `kernel.counts_by_torch`, chosen in `kernel.kernel_for`; a new decoder is
a class like `counter.FileDecoder`.
"""
