"""Nothing here is wrong, or nobody could know that it is."""
import math

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from matplotlib.colors import Normalize
from torch import nn
from torchvision import transforms
from torchvision.models.detection.ssd import SSD

norm = Normalize(0, 255)
norm = plt.Normalize(vmin=0, vmax=1)
unit_length = F.normalize(x, p=2, dim=1)
unit_length = F.normalize(x, 2, 1)
nn.init.trunc_normal_(weight, mean=0.0, std=0.02)
noise = np.random.normal(loc=0, scale=1)
initial = nn.init.normal_(weight, mean=0.0, std=0.0)
denormalize = transforms.Normalize(mean=[-0.485, -0.456, -0.406], std=[1, 1, 1])
denormalize = transforms.Normalize(mean=[0, 0, 0], std=[1 / 0.229, 1 / 0.224, 1 / 0.225])
denormalize = transforms.Normalize(mean=[-2.118, -2.036, -1.804], std=[4.367, 4.464, 4.444])
identity = transforms.Normalize((0, 0, 0), (1, 1, 1))
to_255 = transforms.Normalize((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
own_units = transforms.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
caffe = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
keep_256 = SSD(image_mean=[0.48235, 0.45882, 0.40784], image_std=[1.0 / 255.0, 1.0 / 255.0, 1.0 / 255.0])
only_scaled = dict(mean=[0, 0, 0], std=[255.0, 255.0, 255.0], to_rgb=True)
sentinel = transforms.Normalize([1354.41, 1118.24, 1042.93], [245.72, 333.01, 395.09])
spectrogram = transforms.Normalize(mean=[-4.2677393], std=[4.5689974])
BBOX_MEAN, BBOX_STD = [0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.2, 0.2]
ACTION_MEAN, ACTION_STD = [0.1, 0.2, 0.3], [1.2, 3.4, 0.5]
PRICE_MEAN, PRICE_STD = 0.3, 0.9
AGE_MEAN, AGE_STD = [0.15], [0.15]
measured = transforms.Normalize([0.306], [0.297])
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)
cv2_mean, cv2_std = [0.406, 0.456, 0.485], [0.225, 0.224, 0.229]
mean = compute(0.4914)
std = mean * math.sqrt(2)
transforms.Normalize(mean, std)
transforms.Normalize(*arguments)
kept = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # imgnorm: ignore[known-wrong]
