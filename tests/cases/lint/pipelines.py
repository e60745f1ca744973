"""Images that are normalized again, tables in two units, and scalings that are neither."""

import torchvision.transforms as T
from torchvision.models.detection import fasterrcnn_resnet50_fpn

model = fasterrcnn_resnet50_fpn(weights="DEFAULT")  # it normalizes its images itself
again = T.Compose([T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
scaled = T.Compose([T.Normalize([0.0], [255.0]), T.Normalize([0.43, 0.41, 0.4], [0.21, 0.22, 0.23])])
twice = T.Compose(
    [
        T.Normalize([0.51, 0.48, 0.45], [0.25, 0.24, 0.26]),
        T.Normalize([0.43, 0.41, 0.4], [0.21, 0.22, 0.23]),
    ]
)
TABLE = {
    "cifar10": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
    "svhn": {"mean": [0.4377, 0.4438, 0.4728], "std": [0.198, 0.201, 0.197]},
    "stl10": {"mean": [113.9, 112.1, 103.7], "std": [57.1, 56.5, 57.1]},  # and a wrong std
    "caffe": {"mean": [123.68, 116.78, 103.94], "std": [1.0, 1.0, 1.0]},  # a scale: no entry
}


class Released(Net):
    """Its weights were trained with a wrong std, and need it: a note."""

    def __init__(self):
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1))
