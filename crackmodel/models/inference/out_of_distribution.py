"""Out-of-distribution detection: a tile's distance from the training images.

A classifier of concrete calls a dog clear, with high confidence. Its features separate the two: those of the
training tiles fill a flat cloud, and a dog's lie outside. The cloud is described by probabilistic principal
component analysis (Tipping and Bishop, "Probabilistic Principal Component Analysis",
J. R. Statist. Soc. B, 1999), which is a Gaussian with a few directions of its own variance and one variance
for all others; the score is the Mahalanobis distance from its centre.

docs/model.md says what other statistics gave. The arithmetic is float32 NumPy outside the network, so that it
stays exact where the network is quantised to int8.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import OodRecord

COMPONENTS: Final = 64
"""Directions with a variance of their own: from 32 to 128 the measured difference is small."""

FLAGGED: Final = 0.01
"""Share of the validation part that the threshold flags."""

_METHOD: Final = (
    "Mahalanobis distance of the square roots of the pooled features from the training images' mean, "
    "covariance by probabilistic PCA with {} components; 1 is the root mean square of the training images"
)

_LEAST: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class TrainingDistribution:
    """The distribution of the training tiles' features.

    Features are replaced by their square roots first, because pooled features are skewed.

    Attributes:
        mean: float32 [d], the centre.
        axes: float32 [d, k], orthonormal columns: the directions of most variance.
        weights: float32 [k], by how much a squared coordinate along each of them counts more than one along
            any other direction; negative numbers.
        noise: The variance along every other direction.
    """

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    noise: float

    @classmethod
    def fit(cls, features: npt.NDArray[np.float32], components: int = COMPONENTS) -> Self:
        """Describe the features of training tiles.

        Args:
            features: float32 [n, d] of the network that will score, at least 2; the more the better, for
                d = 1280 at least some thousand.
            components: At most this many directions get a variance of their own, fewer with few tiles.
        """
        from sklearn.decomposition import PCA

        roots = _square_roots(features).astype(np.float64)
        few = max(1, min(components, len(roots) // 2, roots.shape[1] - 1))
        cloud = PCA(few, svd_solver="covariance_eigh").fit(roots)
        noise = max(float(cloud.noise_variance_), _LEAST)
        weights = 1 / np.maximum(cloud.explained_variance_, noise) - 1 / noise
        return cls(
            cloud.mean_.astype(np.float32),
            np.ascontiguousarray(cloud.components_.T, np.float32),
            weights.astype(np.float32),
            noise,
        )

    def distances(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Measure how far tiles are from the cloud.

        Args:
            features: float32 [n, d] of the same network; n may be 0.

        Returns:
            float32 [n]: the Mahalanobis distance divided by the square root of d, so that the root mean
            square over the training tiles is about 1 whatever d is.
        """
        rest = _square_roots(features)
        rest -= self.mean
        along = rest @ self.axes
        # What is left off the axes is small, and must not be the difference of two large sums: that would
        # be another one wherever these are added up in another order.
        rest -= along @ self.axes.T
        squared = np.einsum("nd,nd->n", rest, rest) / np.float32(self.noise)
        squared += np.square(along) @ (self.weights + np.float32(1 / self.noise))
        return np.asarray(np.sqrt(np.maximum(squared, 0) / len(self.mean)), dtype=np.float32)

    def to_bytes(self) -> bytes:
        """Write it as the content of an `.npz` file."""
        file = io.BytesIO()
        np.savez(file, mean=self.mean, axes=self.axes, weights=self.weights, noise=np.float64(self.noise))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(arrays["mean"], arrays["axes"], arrays["weights"], float(arrays["noise"]))
        except (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, BadZipFile) as fault:
            raise ValueError(f"no statistics of training features: {fault}") from fault


def describe_training(
    training: npt.NDArray[np.float32], validation: npt.NDArray[np.float32]
) -> tuple[TrainingDistribution, OodRecord]:
    """Fit the training distribution and choose its threshold.

    Args:
        training: float32 [n, 1280], features of the training tiles as they are, not augmented, by the network
            that will score: `LiteRTModel.run_with_features` of its export.
        validation: float32 [m, 1280], features of the validation tiles, which choose the threshold.

    Returns:
        The content of `ood.npz`, and its record in the card.
    """
    distribution = TrainingDistribution.fit(training)
    threshold = float(np.quantile(distribution.distances(validation), 1 - FLAGGED))
    return distribution, OodRecord(
        method=_METHOD.format(distribution.axes.shape[1]),
        threshold=round(threshold, 4),
        chosen=f"flags {FLAGGED:.0%} of the {len(validation):,} images of the validation part",
        training_images=len(training),
    )


def _square_roots(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # Pooled ReLU outputs are not negative, but dequantised ones may be by a hair.
    roots = np.maximum(features, 0)
    return np.sqrt(roots, out=roots)
