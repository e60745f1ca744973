from torchvision.transforms import Normalize

other_rule = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # imgnorm: ignore[unit]
silenced = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # imgnorm: ignore[unit, known-wrong]
bare = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # imgnorm: ignore
misspelled = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # a note # imgnorm: ignore[known_wrong]
text = "# imgnorm: ignore"
äöü = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
