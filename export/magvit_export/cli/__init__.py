"""Commands of the export side. Their modules import torch only when they run."""
