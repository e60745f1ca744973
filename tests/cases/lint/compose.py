import torchvision.transforms as T
from torchvision import transforms
from torchvision.transforms import v2
import torch

train = transforms.Compose([
    transforms.RandomCrop(32, padding=4),
    transforms.ToTensor(),
    transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
])
right = transforms.Compose([
    transforms.ToTensor(),
    transforms.Normalize(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
])
unit = T.Compose([T.ToTensor(), T.Normalize(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])])
order = T.Compose([T.ToTensor(), T.Normalize([0.406, 0.456, 0.485], [0.225, 0.224, 0.229])])
pasted = v2.Compose([
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.485, 0.456, 0.406]),
])
gray = T.Compose([T.ToTensor(), T.Normalize((0.1307,), (0.3015,))])
convention = T.Normalize([0.5] * 3, [0.5] * 3)
swapped = T.Normalize([0.229, 0.224, 0.225], [0.485, 0.456, 0.406])
svhn = T.functional.normalize(image, [0.4377, 0.4438, 0.4728], [0.1201, 0.1231, 0.1052])
zero = T.Normalize((0.5, 0.4, 0.4), (0.2, 0.0, 0.2))
short = T.Normalize((0.5, 0.4, 0.4), (0.2, 0.3))
impossible = T.Normalize((0.52, 0.48, 0.41), (0.6298, 0.6112, 0.2531))
scale = T.Normalize((0.52, 0.48, 0.41), (0.0039, 0.0039, 0.0039))
mixed = T.Normalize([0.406, 0.456, 0.485], [0.229, 0.224, 0.225])
