"""Schedule, forward process, loss and sampler, against closed forms. No networks."""

from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwm_jax.maths.diffusion import (
    PREDICTIONS,
    add_noise,
    cosine_schedule,
    denoising_loss,
    guided,
    noise_from_velocity,
    overwrite_first_observation,
    sample,
    sampling_coefficients,
    strided_steps,
)

# -------------------------------------------------------------------------------------------- schedule


def test_cosine_schedule_at_five_steps():
    np.testing.assert_allclose(cosine_schedule(5), [0.899, 0.647, 0.341, 0.094, 9.4e-5], rtol=6e-3)


def test_cosine_schedule_of_one_step_is_stopped_by_the_largest_beta():
    # cos^2(pi/2) = 0 would leave no signal at all; beta <= 0.999 leaves a thousandth.
    np.testing.assert_allclose(cosine_schedule(1), [0.001], rtol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 100])
def test_signal_only_falls(num_steps):
    alphas_bar = cosine_schedule(num_steps)
    assert alphas_bar.shape == (num_steps,)
    assert (np.diff(np.concatenate([[1.0], alphas_bar, [0.0]])) < 0).all()


@pytest.mark.parametrize(
    ("total", "used", "steps"),
    # 10 in 3: the middle, 5.5, rounds up.
    [(5, 3, (1, 3, 5)), (5, 2, (1, 5)), (5, 1, (5,)), (5, 5, (1, 2, 3, 4, 5)), (10, 3, (1, 6, 10)), (1, 1, (1,))],
)
def test_strided_steps_by_hand(total, used, steps):
    assert strided_steps(total, used) == steps


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 100).flatmap(lambda k: st.tuples(st.just(k), st.integers(2, k))))
def test_strided_steps_increase_from_the_first_to_the_last_and_are_equally_spaced(sizes):
    total, used = sizes
    steps = strided_steps(total, used)
    gaps = np.diff(steps)
    assert (len(steps), steps[0], steps[-1]) == (used, 1, total)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("used", [0, 6, -1])
def test_more_sampling_than_diffusion_steps_or_none_is_refused(used):
    with pytest.raises(ValueError, match=f"num_sampling_steps must lie in .*5, got {used}"):
        strided_steps(5, used)


# ------------------------------------------------------------------------------------- forward process


def test_forward_process_by_hand():
    # sqrt(0.64) * 3 + sqrt(0.36) * 2 = 2.4 + 1.2
    assert float(add_noise(jnp.array(3.0), jnp.array(2.0), jnp.array(0.64))) == pytest.approx(3.6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_forward_process_has_the_moments_of_the_schedule(k):
    alpha_bar = cosine_schedule(5)[k - 1]
    x = add_noise(jnp.full(40_000, 2.0), jax.random.normal(jax.random.key(k), (40_000,)), alpha_bar)
    # The standard error of the mean is at most 1 / 200.
    assert float(x.mean()) == pytest.approx(2 * np.sqrt(alpha_bar), abs=0.02)
    assert float(x.var()) == pytest.approx(1 - alpha_bar, abs=0.03)


def test_the_reward_of_row_0_and_all_other_rows_stay_when_the_observation_is_overwritten():
    x = overwrite_first_observation(jnp.zeros((2, 3)), jnp.array([7.0, 8.0]))
    np.testing.assert_array_equal(x, [[7, 8, 0], [0, 0, 0]])


# ------------------------------------------------------------------------------------------------ loss

T, D, OBSERVATION_SIZE = 3, 3, 2
X0 = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
ALPHAS_BAR = jnp.asarray(cosine_schedule(5), jnp.float32)
KNOWN = jnp.ones(T)


def true_noise(x, k, x0=X0):
    """The noise in x; only row 0's observation, which is clean in x, tells nothing."""
    return (x - jnp.sqrt(ALPHAS_BAR[k - 1]) * x0) / jnp.sqrt(1 - ALPHAS_BAR[k - 1])


def noise_loss(denoise, *arguments):
    return denoising_loss(denoise, PREDICTIONS["noise"].target, *arguments)


@jax.jit
def loss_of_error(error, x0, mask, key):
    return noise_loss(lambda x, k: true_noise(x, k) + error, x0, mask, OBSERVATION_SIZE, ALPHAS_BAR, key)


def loss(error=0.0, mask=KNOWN, x0=X0, seed=0):
    """The loss of a denoiser that is right but for `error`."""
    return float(
        noise_loss(lambda x, k: true_noise(x, k) + error, x0, mask, OBSERVATION_SIZE, ALPHAS_BAR, jax.random.key(seed))
    )


def error_at(row, column):
    return jnp.zeros((T, D)).at[row, column].set(1.0)


def test_the_denoiser_that_knows_the_noise_has_no_loss():
    assert max(loss(seed=seed) for seed in range(8)) < 1e-8


@pytest.mark.parametrize(("row", "column"), [(0, 2), (1, 0), (1, 2), (2, 1)])
def test_every_unknown_entry_weighs_the_same(row, column):
    # An error of 1 in one of T * D = 9 entries; row 0's reward (column 2) is unknown, hence counted.
    assert loss(error_at(row, column)) == pytest.approx(1 / 9, rel=1e-3)


@pytest.mark.parametrize("column", [0, 1])
def test_the_given_observation_carries_no_loss(column):
    assert loss(100 * error_at(0, column)) < 1e-8


def test_masked_rows_carry_no_loss_and_the_denominator_stays():
    mask = jnp.array([1.0, 1.0, 0.0])
    assert loss(100 * error_at(2, 1), mask) < 1e-8
    # Still divided by 9, though 6 entries are known: batches can be divided over devices.
    assert loss(error_at(1, 1), mask) == pytest.approx(1 / 9, rel=1e-3)


def test_a_masked_row_may_hold_anything():
    broken = X0.at[2].set(jnp.nan)
    assert loss(error_at(1, 1), jnp.array([1.0, 1.0, 0.0]), broken) == pytest.approx(1 / 9, rel=1e-3)


def test_the_denoiser_sees_the_observation_clean_and_the_rest_noisy():
    seen = []
    noise_loss(lambda x, k: seen.append(x) or x, X0, KNOWN, OBSERVATION_SIZE, ALPHAS_BAR, jax.random.key(0))
    (x,) = seen
    np.testing.assert_array_equal(x[0, :OBSERVATION_SIZE], X0[0, :OBSERVATION_SIZE])
    assert (x[1:] != X0[1:]).all()
    assert x[0, 2] != X0[0, 2]


def test_every_diffusion_step_is_trained_equally_often():
    # A denoiser that is wrong by k everywhere: 9 - 2 entries count, loss = k^2 * 7 / 9.
    def one(key):
        return noise_loss(lambda x, k: true_noise(x, k) + k, X0, KNOWN, OBSERVATION_SIZE, ALPHAS_BAR, key)

    losses = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 5000))
    k = np.sqrt(np.asarray(losses) * 9 / 7)
    np.testing.assert_allclose(k, np.round(k), atol=1e-2)
    # 1000 each; the standard deviation of a count is 28.
    np.testing.assert_allclose(np.bincount(np.round(k).astype(int), minlength=6), [0] + [1000] * 5, atol=120)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_the_velocity_of_gaussian_rows_is_predicted_as_well_as_can_be(sigma):
    # x0 ~ N(0, sigma^2): x has variance S = abar sigma^2 + 1 - abar, the best guess is E[v | x] = c x with
    # c = sqrt(abar (1 - abar)) (1 - sigma^2) / S, and what it leaves is Var(v | x) = sigma^2 / S, at every step.
    variances = ALPHAS_BAR * sigma**2 + 1 - ALPHAS_BAR

    def best(x, k):
        return jnp.sqrt(ALPHAS_BAR * (1 - ALPHAS_BAR))[k - 1] * (1 - sigma**2) / variances[k - 1] * x

    def one(key):
        rows_key, loss_key = jax.random.split(key)
        rows = sigma * jax.random.normal(rows_key, (4, 2))
        return denoising_loss(best, PREDICTIONS["velocity"].target, rows, jnp.ones(4), 0, ALPHAS_BAR, loss_key)

    losses = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 20_000))
    assert losses.mean() == pytest.approx(float(jnp.mean(sigma**2 / variances)), rel=0.03)


def test_a_wrong_velocity_costs_the_same_at_every_step_where_its_noise_would_not():
    # v off by 1 at every unknown entry: 7 of 9. As noise it is off by sqrt(abar_k): the mean of abar weighs it.
    def one(target, key):
        def predict(x, k):
            alpha_bar = ALPHAS_BAR[k - 1]
            noise = true_noise(x, k)
            velocity = PREDICTIONS["velocity"].target(X0, noise, alpha_bar) + 1
            return velocity if target == "velocity" else noise_from_velocity(velocity, x, alpha_bar)

        return denoising_loss(predict, PREDICTIONS[target].target, X0, KNOWN, OBSERVATION_SIZE, ALPHAS_BAR, key)

    keys = jax.random.split(jax.random.key(0), 5_000)
    losses = {target: jax.jit(jax.vmap(partial(one, target)))(keys) for target in PREDICTIONS}
    np.testing.assert_allclose(losses["velocity"], 7 / 9, rtol=2e-2)
    assert losses["noise"].mean() == pytest.approx(float(7 / 9 * ALPHAS_BAR.mean()), rel=0.05)


# -------------------------------------------------------------------------------------------- guidance


def test_guidance_mixes_the_branches():
    # 1.2 * (x + 3) + (1 - 1.2) * (x + 1) at x = 10: 15.6 - 2.2
    mixed = guided(lambda x, k, c: x + c, jnp.array(3.0), jnp.array(1.0), 1.2)
    np.testing.assert_allclose(mixed(jnp.array([[10.0]]), jnp.array(1)), [[13.4]], rtol=1e-6)


def test_guidance_of_zero_is_the_null_branch():
    mixed = guided(lambda x, k, c: x * c["scale"], {"scale": jnp.array(3.0)}, {"scale": jnp.array(-1.0)}, 0.0)
    np.testing.assert_allclose(mixed(jnp.array([[10.0]]), jnp.array(1)), [[-10.0]])


def test_guidance_of_one_never_calls_the_null_branch():
    seen = []
    only = guided(lambda x, k, c: seen.append(c) or x, "condition", "null", 1.0)
    only(jnp.zeros((1, 1)), jnp.array(1))
    assert seen == ["condition"]


# --------------------------------------------------------------------------------------------- sampler

WIDE = jnp.full(2, 1e3)
OBSERVATION = jnp.array([0.7])


def draw(denoise, key, *, total=5, steps=None, temperature=1.0, bound=WIDE, length=4):
    steps = strided_steps(total, total) if steps is None else steps
    return sample(denoise, OBSERVATION, length, -bound, bound, cosine_schedule(total), steps, temperature, key)


@cache
def recorded_calls(steps, temperature, total=5):
    """A run of the sampler with plain Python loops: (k, x) of every call of the denoiser, and the result."""
    calls = []

    def denoise(x, k):
        calls.append((int(k), np.asarray(x, np.float64)))
        return 0.3 * x

    with jax.disable_jit():
        result = draw(denoise, jax.random.key(0), total=total, steps=steps, temperature=temperature)
    return calls, np.asarray(result)


@pytest.mark.parametrize("num_sampling_steps", [3, 5])
def test_row_0_keeps_the_observation_in_every_call_and_in_the_result(num_sampling_steps):
    steps = strided_steps(5, num_sampling_steps)
    calls, result = recorded_calls(steps, 1.0)
    assert [k for k, _ in calls] == list(reversed(steps))
    for x in [x for _, x in calls] + [result]:
        np.testing.assert_allclose(x[0, 0], 0.7, rtol=1e-6)


def test_at_temperature_0_every_step_is_the_posterior_mean_by_hand():
    # The full schedule in the betas of Ho et al. 2020, equation 7, from whatever noise came first.
    calls, result = recorded_calls((1, 2, 3, 4, 5), 0.0)
    alphas_bar = np.concatenate([[1.0], cosine_schedule(5)])
    after = [x for _, x in calls[1:]] + [result]
    for (k, x), x_next in zip(calls, after, strict=True):
        alpha = alphas_bar[k] / alphas_bar[k - 1]
        x0 = (x - np.sqrt(1 - alphas_bar[k]) * 0.3 * x) / np.sqrt(alphas_bar[k])
        mean = np.sqrt(alphas_bar[k - 1]) * (1 - alpha) / (1 - alphas_bar[k]) * x0
        mean += np.sqrt(alpha) * (1 - alphas_bar[k - 1]) / (1 - alphas_bar[k]) * x
        mean[0, 0] = 0.7
        np.testing.assert_allclose(x_next, mean, rtol=1e-4, atol=1e-4)


def test_the_strided_posterior_skips_the_unused_steps():
    calls, _ = recorded_calls((1, 3, 5), 0.0)
    (_, x), (_, x_next) = calls[:2]
    abar_3, abar_5 = cosine_schedule(5)[[2, 4]]
    x0 = (x - np.sqrt(1 - abar_5) * 0.3 * x) / np.sqrt(abar_5)
    mean = np.sqrt(abar_3) * (1 - abar_5 / abar_3) / (1 - abar_5) * x0
    mean += np.sqrt(abar_5 / abar_3) * (1 - abar_3) / (1 - abar_5) * x
    np.testing.assert_allclose(x_next[1:], mean[1:], rtol=1e-4, atol=1e-4)


def test_noise_has_the_posterior_deviation_times_the_temperature():
    first_step = {t: recorded_calls((1, 3, 5), t)[0][1][1][1:] for t in (0.0, 0.5, 1.0)}
    noise = first_step[1.0] - first_step[0.0]
    np.testing.assert_allclose(first_step[0.5] - first_step[0.0], 0.5 * noise, rtol=1e-3, atol=1e-3)
    assert (noise != 0).all()


def test_the_last_step_adds_no_noise():
    ends = jax.jit(lambda t: draw(lambda x, k: 0.3 * x, jax.random.key(0), steps=(5,), temperature=t))

    np.testing.assert_array_equal(ends(0.0), ends(10.0))


def full_sampler(denoise, key):
    """Ho et al. 2020, algorithm 2, on all five steps with their betas; no strides anywhere."""
    alphas_bar = cosine_schedule(5)
    initial_key, steps_key = jax.random.split(key)
    x = jax.random.normal(initial_key, (4, 2))
    for k, step_key in zip(range(5, 0, -1), jax.random.split(steps_key, 5), strict=True):
        abar, below = alphas_bar[k - 1], alphas_bar[k - 2] if k > 1 else 1.0
        alpha = abar / below
        x = x.at[0, 0].set(OBSERVATION[0])
        x0 = (x - np.float32(np.sqrt(1 - abar)) * denoise(x, k)) / np.float32(np.sqrt(abar))
        mean = np.float32(np.sqrt(below) * (1 - alpha) / (1 - abar)) * x0
        mean += np.float32(np.sqrt(alpha) * (1 - below) / (1 - abar)) * x
        x = mean + np.float32(np.sqrt((1 - alpha) * (1 - below) / (1 - abar))) * jax.random.normal(step_key, (4, 2))
    return x.at[0, 0].set(OBSERVATION[0])


def test_all_steps_in_a_stride_are_the_full_sampler_bit_for_bit():
    def denoise(x, k):
        return 0.3 * x

    # Operation by operation: fused, the two programs would round differently.
    with jax.disable_jit():
        strided = draw(denoise, jax.random.key(3), steps=strided_steps(5, 5))
        np.testing.assert_array_equal(strided, full_sampler(denoise, jax.random.key(3)))


def test_compiled_and_plain_samplers_agree():
    run = jax.jit(lambda key: draw(lambda x, k: 0.3 * x, key, steps=(1, 3, 5)))
    np.testing.assert_allclose(run(jax.random.key(0)), recorded_calls((1, 3, 5), 1.0)[1], rtol=1e-4, atol=1e-5)


def test_clean_data_never_leaves_the_range():
    low, high = jnp.array([-0.1, -0.2]), jnp.array([0.1, 0.3])
    x = sample(lambda x, k: -x, jnp.array([0.05]), 6, low, high, cosine_schedule(5), (1, 3, 5), 1.0, jax.random.key(0))
    assert ((x >= low) & (x <= high)).all()
    assert (x == high).any()  # the bound is met: without it the estimate would lie beyond


# A linear-Gaussian world of T = 3 rows, in closed form: given s_0, the five unknown numbers
# (r_0, s_1, r_1, s_2, r_2) are normal with this mean and covariance.
MEAN = np.array([0.5, -0.3, 0.2, 0.8, -0.6])
FACTOR = np.random.default_rng(0).normal(size=(5, 5)) * 0.4
COVARIANCE = FACTOR @ FACTOR.T + 0.05 * np.eye(5)


def optimal_denoiser(alphas_bar):
    """The minimiser of the noise-prediction loss on that world, E[eps | x_k], for any mean m of the unknowns.

    E[y | y_k] = m + sqrt(abar) S (abar S + (1 - abar) I)^-1 (y_k - sqrt(abar) m)
    eps        = (y_k - sqrt(abar) E[y | y_k]) / sqrt(1 - abar)
               = sqrt(1 - abar) (abar S + (1 - abar) I)^-1 (y_k - sqrt(abar) m)
    """
    gains = [np.sqrt(1 - a) * np.linalg.inv(a * COVARIANCE + (1 - a) * np.eye(5)) for a in alphas_bar]
    gains, shifts = jnp.asarray(np.stack(gains), jnp.float32), jnp.asarray(np.sqrt(alphas_bar), jnp.float32)

    def denoise(x, k, mean):
        eps = gains[k - 1] @ (x.reshape(-1)[1:] - shifts[k - 1] * mean)
        return jnp.concatenate([jnp.zeros(1), eps]).reshape(3, 2)

    return denoise


@partial(jax.jit, static_argnums=(0, 1, 3, 4))
def unknowns(total, num_sampling_steps, temperature, num_samples, guidance_weight=1, asked_mean=MEAN):
    """Draws of the five unknowns, asked for `asked_mean` where nobody asks for MEAN."""
    steps = strided_steps(total, num_sampling_steps)
    asked, null = jnp.asarray(asked_mean, jnp.float32), jnp.asarray(MEAN, jnp.float32)
    denoise = guided(optimal_denoiser(cosine_schedule(total)), asked, null, guidance_weight)

    def one(key):
        return draw(denoise, key, total=total, steps=steps, temperature=temperature, length=3).reshape(-1)[1:]

    return jax.vmap(one)(jax.random.split(jax.random.key(0), num_samples))


@pytest.mark.parametrize(("total", "used", "temperature"), [(5, 3, 0.0), (5, 5, 0.5), (10, 3, 1.0)])
def test_the_optimal_denoiser_reproduces_the_conditional_mean(total, used, temperature):
    y = unknowns(total, used, temperature, 8192)
    # Standard error at most 1 / 90; starting from N(0, I) shifts the mean by at most sqrt(abar_K) = 0.01 of it.
    np.testing.assert_allclose(y.mean(axis=0), MEAN, atol=0.05)


# The mean that the condition asks for: none, one or two units away from what the null branch knows.
ASKED_MEAN = MEAN + np.array([1.0, -2.0, 1.5, 0.0, 2.0])


@pytest.mark.parametrize(("used", "temperature"), [(1, 1.0), (3, 0.5), (5, 1.0)])
@pytest.mark.parametrize("guidance_weight", [0.0, 0.5, 1.0, 1.2, 3.0])
def test_guidance_moves_the_mean_by_its_weight_times_what_the_condition_adds(guidance_weight, used, temperature):
    # The optimal noise is linear in the mean m, so eps_null + w (eps_asked - eps_null) is the optimal noise of the
    # mean m_null + w (m_asked - m_null), and that is where the sampler must end, whatever N and the temperature.
    y = unknowns(5, used, temperature, 8192, guidance_weight, ASKED_MEAN)
    expected = MEAN + guidance_weight * (ASKED_MEAN - MEAN)
    # As above; a weight of 1.2 moves entries by 0.2 to 0.4 beyond that of 1.
    np.testing.assert_allclose(y.mean(axis=0), expected, atol=0.06)


def test_many_steps_at_temperature_1_reproduce_the_covariance():
    y = unknowns(200, 200, 1.0, 8192)
    np.testing.assert_allclose(np.cov(y.T), COVARIANCE, atol=0.06 * np.diag(COVARIANCE).max())
    np.testing.assert_allclose(y.mean(axis=0), MEAN, atol=0.05)


def covariance_drawn(total, used, temperature):
    """The sampler's covariance with the optimal denoiser, in closed form.

    Every step is affine, x' = A x + b + temperature * sigma z, so C' = A C A' + (temperature * sigma)^2 I, from
    C = I on; with E[y | y_k] as above and the posterior of Ho et al. 2020, equation 7.
    """
    alphas_bar = np.concatenate([[1.0], cosine_schedule(total)])
    steps, covariance = (0, *strided_steps(total, used)), np.eye(5)
    for below, k in reversed(list(pairwise(steps))):
        abar, abar_below = alphas_bar[k], alphas_bar[below]
        beta = 1 - abar / abar_below
        estimate = np.sqrt(abar) * COVARIANCE @ np.linalg.inv(abar * COVARIANCE + (1 - abar) * np.eye(5))
        matrix = np.sqrt(abar_below) * beta / (1 - abar) * estimate
        matrix += np.sqrt(1 - beta) * (1 - abar_below) / (1 - abar) * np.eye(5)
        variance = beta * (1 - abar_below) / (1 - abar)
        covariance = matrix @ covariance @ matrix.T + temperature**2 * variance * np.eye(5)
    return covariance


@pytest.mark.parametrize("used", [3, 5])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_covariance_is_that_of_noise_scaled_by_the_temperature(temperature, used):
    expected = covariance_drawn(5, used, temperature)
    drawn = np.cov(unknowns(5, used, temperature, 32768).T)
    # The standard error of a variance over n draws is sqrt(2 / n) of it, 0.008.
    np.testing.assert_allclose(drawn, expected, atol=0.035 * np.diag(expected).max())
    for other in {0.0, 0.5, 1.0} - {temperature}:
        difference = covariance_drawn(5, used, other) - expected
        assert np.abs(difference).max() > 0.15 * np.diag(expected).max()  # the temperatures can be told apart


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha_bar", [0.0, 9.4e-5, 0.341, 1.0])
def test_the_noise_is_found_again_in_the_velocity(alpha_bar: float, seed: int) -> None:
    x0, noise = np.random.default_rng(seed).normal(size=(2, 4, 3)).astype(np.float32)
    velocity = np.sqrt(alpha_bar) * noise - np.sqrt(1 - alpha_bar) * x0
    x = add_noise(x0, noise, alpha_bar)
    np.testing.assert_allclose(noise_from_velocity(velocity, x, alpha_bar), noise, atol=1e-6)


def test_the_samplers_coefficients_by_hand():
    # Steps 1 and 2 of abar = (0.64, 0.36), sampled from 2 down. a = 0.36 / 0.64 = 0.5625, then 0.64 / 1.
    found = sampling_coefficients([0.64, 0.36], (1, 2), temperature=0.5)
    expected = {
        "k": [2, 1],
        "signal": [0.6, 0.8],
        "noise": [0.8, 0.6],
        # sqrt(0.64) (1 - 0.5625) / 0.64 = 0.546875;  1 (1 - 0.64) / 0.36 = 1
        "mean_x0": [0.546875, 1.0],
        # sqrt(0.5625) (1 - 0.64) / 0.64 = 0.421875;  sqrt(0.64) (1 - 1) / 0.36 = 0
        "mean_x": [0.421875, 0.0],
        # 0.5 sqrt(0.4375 * 0.36 / 0.64) = 0.248039;  0
        "std": [0.5 * 0.24609375**0.5, 0.0],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
