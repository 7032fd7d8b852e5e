"""The running average of weights, and Muon's step."""

import torch
from torch.optim.swa_utils import AveragedModel

from training.muon import orthogonalize
from training.optimizer import running_average


def test_running_average_keeps_little_of_a_short_training_s_first_steps() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(model, multi_avg_fn=running_average(0.98))
    kept = []
    for step in range(2000):
        with torch.no_grad():
            model.weight.fill_(float(step < 10))
        average.update_parameters(model)
        kept.append(next(average.parameters()).item())
    assert kept[9] == 1
    assert kept[31] < 0.05  # 0.64 if each step weighed as later ones do
    assert kept[1999] / kept[1998] > 0.9799  # of those before


def test_muon_makes_no_step_of_a_gradient_of_zero() -> None:
    assert orthogonalize(torch.zeros(3, 2)).equal(torch.zeros(3, 2))
