"""Counting on a CUDA device, in integers: the tally is equal to the one that the CPU gives.

The way of the images, which workers or this process packed into a buffer (pixels/buffer.py):

    device.py         a device by its name ("cuda:1", "auto"), and the counters that use it
    counter.py        a buffer goes to the device, is counted in batches, and becomes a `Tally`
    nvjpeg.py         JPEG files in the buffer -> pixels, on the device
    kernel.py         pixels -> one histogram of a batch, and Σx and Σx² of each image, by torch's own
                      operations; and the choice of the kernel
    triton_kernel.py  the same in one pass, by Triton: used where it works and counts the same

tensors.py counts tensors that lie on a device already. errors.py turns CUDA's errors into DeviceError.
Histograms and sums are counted apart and compared at the end. A device without memory for a batch gets
smaller batches; an image that does not fit alone is counted on the CPU.

It may import the packages from the ground to pipeline, and needs the ground, tally and pixels; torch and
NumPy; Triton only in triton_kernel.py, TorchCodec and Pillow only in nvjpeg.py. It takes seconds to load,
so it is imported only where a device is asked for, or where a tensor lies on one.

A new kernel: a function like `kernel.counts_by_torch`, chosen in `kernel.kernel_for`. A new decoder: a
class like `counter.FileDecoder`.
"""
