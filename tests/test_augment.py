from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from distilset.augment import (
    OPERATIONS,
    UNIFORMS,
    AugmentConfig,
    Draw,
    augment,
    draw_per_class,
    draw_per_image,
)
from distilset.rng import Rng
from tests.references import dsa

NAMES = tuple(OPERATIONS)
CONFIG = AugmentConfig()
BELOW_ONE = 1 - 2**-24
uniform = st.integers(0, 2**24 - 1).map(lambda i: i / 2**24)


def noise(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def mixed_draw(n, seed=0):
    """Every operation in turn, with parameters of its own for every image."""
    generator = torch.Generator().manual_seed(seed)
    return Draw(torch.arange(n) % len(NAMES), torch.rand(n, UNIFORMS, generator=generator))


def oracle(images, draw, config=CONFIG):
    rows = zip(images.double().numpy(), draw.operation, draw.uniforms.double().numpy(), strict=True)
    done = [dsa.OPERATIONS[config.operations[int(o)]](x, u, config) for x, o, u in rows]
    return torch.from_numpy(np.stack(done))


# --- the operations against the float64 oracle ---------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (4, 9, 14), (3, 12, 7), (2, 1, 5)])
def test_operation_equals_oracle(name, shape):
    images, u = noise(12, *shape, dtype=torch.float64), mixed_draw(12).uniforms
    u[0], u[1] = 0, BELOW_ONE
    expected = oracle(images, Draw(torch.full((12,), NAMES.index(name)), u))
    torch.testing.assert_close(
        OPERATIONS[name](images, u.double(), CONFIG), expected, atol=1e-10, rtol=0
    )
    torch.testing.assert_close(
        OPERATIONS[name](images.float(), u, CONFIG), expected.float(), atol=1e-5, rtol=1e-5
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    u=st.lists(uniform, min_size=UNIFORMS, max_size=UNIFORMS),
    fraction=st.floats(0, 1),
    strength=st.floats(1, 3),
)
def test_operation_equals_oracle_at_any_shape_and_strength(name, shape, u, fraction, strength):
    config = replace(
        CONFIG, crop=fraction, cutout=fraction, flip=fraction, scale=strength, rotate=60 * strength
    )
    images, rows = noise(1, *shape, dtype=torch.float64), torch.tensor([u])
    draw = Draw(torch.tensor([NAMES.index(name)]), rows)
    torch.testing.assert_close(
        augment(images, draw, config), oracle(images, draw, config), atol=1e-9, rtol=0
    )


def test_mixed_batch_equals_oracle():
    images, draw = noise(26, 3, 10, 8), mixed_draw(26)
    torch.testing.assert_close(
        augment(images, draw, CONFIG), oracle(images, draw).float(), atol=1e-5, rtol=1e-5
    )


def test_published_strengths_at_32_pixels():
    images = torch.ones(2, 1, 32, 32)
    ends = torch.tensor([[0.0, 0.0, 0.0], [BELOW_ONE] * 3])
    moved = OPERATIONS["crop"](images, ends, CONFIG)
    assert moved.sum((1, 2, 3)).tolist() == [28 * 28, 28 * 28]  # four pixels, either way
    assert moved[0, 0, 4, 4] == 1
    assert moved[1, 0, 27, 27] == 1
    cut = OPERATIONS["cutout"](images, torch.tensor([[0.5] * 3, [0.0] * 3]), CONFIG)
    assert cut.sum((1, 2, 3)).tolist() == [1024 - 256, 1024 - 64]  # whole, and a corner's quarter


def test_integers_stay_in_range_at_the_largest_uniform():
    u = torch.full((1, UNIFORMS), BELOW_ONE)
    for side in range(1, 70):
        images = torch.ones(1, 1, side, side)
        cut = OPERATIONS["cutout"](images, u, replace(CONFIG, cutout=1 / side))
        assert cut.sum() == side**2 - 1
        assert cut[..., -1, -1] == 0  # the last centre is the last pixel
        moved = OPERATIONS["crop"](images, u, replace(CONFIG, crop=(side - 1) / side))
        assert moved.sum() == 1
        assert moved[..., 0, 0] == 1  # the largest shift leaves the last pixel


@pytest.mark.parametrize("name", ["crop", "cutout", "flip"])
def test_moved_pixels_are_exact(name):
    images = torch.arange(1, 1 + 20 * 63).view(20, 1, 9, 7).float()
    out = OPERATIONS[name](images, mixed_draw(20).uniforms, CONFIG)
    for before, after in zip(images, out, strict=True):
        assert set(after.flatten().tolist()) <= {0.0, *before.flatten().tolist()}


# --- gradients ------------------------------------------------------------------------------------


def test_gradient():
    draw = mixed_draw(12)
    images = noise(12, 2, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, draw, CONFIG), images)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_one_operation(name):
    draw = Draw(torch.full((2,), NAMES.index(name)), mixed_draw(2).uniforms)
    images = noise(2, 3, 4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, draw, CONFIG), images)


# --- batches --------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)), kept=st.integers(1, 12))
def test_an_image_is_augmented_alike_in_any_batch(order, kept):
    images, draw = noise(12, 3, 8, 6), mixed_draw(12)
    index = torch.tensor(order[:kept])
    part = augment(images[index], draw.rows(index), CONFIG)
    torch.testing.assert_close(part, augment(images, draw, CONFIG)[index], atol=1e-6, rtol=1e-6)


def test_real_and_synthetic_images_of_a_class_share_parameters():
    draw = draw_per_class(CONFIG, Rng(3), 5, range(8))
    image = noise(8, 3, 8, 8)
    real_labels = torch.arange(8).repeat_interleave(3)
    real = augment(image[real_labels], draw.rows(real_labels), CONFIG)
    synthetic = augment(image, draw, CONFIG)
    torch.testing.assert_close(real, synthetic[real_labels], atol=1e-6, rtol=1e-6)


def test_input_is_left_alone_and_no_global_randomness_is_used():
    images, draw = noise(12, 3, 8, 8), mixed_draw(12)
    copy, state = images.clone(), torch.get_rng_state()
    augment(images, draw, CONFIG)
    draw_per_class(CONFIG, Rng(0), 0, range(3))
    draw_per_image(CONFIG, torch.Generator().manual_seed(0), 3)
    assert torch.equal(images, copy)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_dtype_and_memory_format_are_kept(dtype, channels):
    draw = mixed_draw(12)
    plain = noise(12, channels, 8, 6, dtype=dtype)
    images = plain.contiguous(memory_format=torch.channels_last)
    out = augment(images, draw, CONFIG)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert augment(plain, draw, CONFIG).is_contiguous()
    assert torch.equal(out, augment(plain, draw, CONFIG))
    expected = oracle(plain, draw).to(dtype)
    tolerance = 1e-5 if dtype in (torch.float32, torch.float64) else 2e-2
    torch.testing.assert_close(out, expected, atol=tolerance, rtol=tolerance)


def test_no_operations_and_no_images_change_nothing():
    images, none = noise(3, 3, 8, 8), AugmentConfig(operations=())
    per_class = draw_per_class(none, Rng(0), 0, range(3))
    per_image = draw_per_image(none, torch.Generator().manual_seed(0), 3)
    assert torch.equal(augment(images, per_class, none), images)
    assert torch.equal(augment(images, per_image, none), images)
    empty = Draw(torch.zeros(0, dtype=torch.int64), torch.zeros(0, UNIFORMS))
    assert augment(images[:0], empty, CONFIG).shape == (0, 3, 8, 8)


def test_draw_of_another_length_is_refused():
    with pytest.raises(ValueError, match="3 images need as many draws; got 2"):
        augment(noise(3, 3, 8, 8), mixed_draw(2), CONFIG)


# --- draws ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    step=st.integers(0, 2**40),
    classes=st.lists(st.integers(0, 999), min_size=1, max_size=8, unique=True),
)
def test_class_draw_depends_on_seed_step_and_class_alone(seed, step, classes):
    together = draw_per_class(CONFIG, Rng(seed), step, classes)
    for row, c in enumerate(classes):
        alone = draw_per_class(CONFIG, Rng(seed), step, [c])
        assert torch.equal(alone.operation[0], together.operation[row])
        assert torch.equal(alone.uniforms[0], together.uniforms[row])
    assert together.uniforms.min() >= 0
    assert together.uniforms.max() < 1


def test_class_draws_differ_between_classes_steps_and_seeds():
    draws = [
        draw_per_class(CONFIG, Rng(seed), step, [c]).uniforms
        for seed, step, c in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    ]
    assert len({tuple(d.flatten().tolist()) for d in draws}) == 4


def test_operations_are_drawn_equally_often():
    classes = draw_per_class(CONFIG, Rng(0), 0, range(12000)).operation
    generator = torch.Generator().manual_seed(0)
    batches = torch.cat([draw_per_image(CONFIG, generator, 1).operation for _ in range(6000)])
    for drawn in (classes, batches):
        share = torch.bincount(drawn, minlength=6) / len(drawn)
        assert (share - 1 / 6).abs().max() < 0.02  # four standard deviations


def test_a_batch_has_one_operation_and_parameters_for_every_image():
    draw = draw_per_image(CONFIG, torch.Generator().manual_seed(0), 50)
    assert draw.operation.shape == (50,)
    assert len(draw.operation.unique()) == 1
    assert len(draw.uniforms[:, 0].unique()) == 50


def test_uniforms_never_round_up_to_one():
    class Largest(Rng):
        def uniform(self, purpose, step, classes, n):
            return np.full((len(classes), n), 1 - 2.0**-32)

    draw = draw_per_class(CONFIG, Largest(0), 0, [0])
    assert draw.operation.item() == 5
    assert draw.uniforms.max().item() == BELOW_ONE


def test_without_flip():
    config = CONFIG.without_flip()
    assert config.operations == ("color", "crop", "cutout", "scale", "rotate")
    assert set(draw_per_class(config, Rng(0), 0, range(200)).operation.tolist()) == set(range(5))
    assert config.without_flip() == config


# --- configuration --------------------------------------------------------------------------------


def test_lists_and_integers_of_toml_are_taken():
    config = AugmentConfig(operations=["crop", "flip"], rotate=10)  # type: ignore[arg-type]
    assert config.operations == ("crop", "flip")
    assert TypeAdapter(AugmentConfig).validate_json('{"operations": ["crop", "flip"]}')


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"operations": ("colour",)}, "unknown augmentation operation 'colour'"),
        ({"operations": ("crop", "crop")}, "'crop' is listed more than once"),
        ({"operations": "crop"}, "tuple"),
        ({"scale": 0.5}, "scale\n.*greater than or equal to 1"),
        ({"crop": 1.5}, "crop\n.*less than or equal to 1"),
        ({"flip": -0.1}, "flip\n.*greater than or equal to 0"),
        ({"cutout": float("nan")}, "cutout\n.*finite"),
        ({"brightness": float("inf")}, "brightness\n.*finite"),
        ({"rotate": 200.0}, "rotate\n.*less than or equal to 180"),
        ({"flip": True}, "valid number"),
        ({"rotation": 3.0}, "rotation"),
    ],
)
def test_bad_settings_are_refused_with_a_sentence(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        AugmentConfig(**settings)
