import torch
from ip2p.training.shapes.base import new_scheduler


def test_nothing_of_the_picture_is_left_at_the_first_step():
    scheduler = new_scheduler()
    scheduler.set_timesteps(20)
    noise, picture = torch.zeros(1, 4, 16, 16), torch.ones(1, 4, 16, 16)
    assert scheduler.add_noise(picture, noise, scheduler.timesteps[:1]).abs().max() < 1e-3
    assert scheduler.config.prediction_type == "v_prediction"
