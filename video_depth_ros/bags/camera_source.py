# SPDX-License-Identifier: Apache-2.0
"""The camera model of the images, from the newest ``sensor_msgs/CameraInfo``."""

from __future__ import annotations

from typing import Any

from video_depth_ros.bags.messages import camera_of
from video_depth_ros.camera import Camera
from video_depth_ros.errors import InputError

_SAME_ASPECT = 0.01


class CameraSource:
    """Keeps the last usable camera model and fits it to the images' size.

    A model that cannot be used is refused and the one before stays. Used by the worker alone.
    """

    def __init__(self, rectified: bool = False) -> None:
        self.rectified = rectified  # P of camera_info describes the images, without distortion
        self._seen = ""
        self._camera: Camera | None = None
        self._fitted: Camera | None = None
        self.frame_id = ""
        self._refused = ""  # what was wrong with the newest camera_info
        self._misfit = ""  # why the model does not fit the newest image

    def update(self, info: Any) -> None:
        """Take a camera_info message; one equal to the last costs nothing.

        Raises:
            InputError: ``uncalibrated`` (K all zero) or ``camera_info`` (numbers that no camera
                can have), once for every such message that differs from the one before.
        """
        self.frame_id = str(info.header.frame_id)
        roi = info.roi
        seen = repr(  # a text, because NaN differs from itself
            [
                (info.width, info.height, info.distortion_model, info.binning_x, info.binning_y),
                (roi.x_offset, roi.y_offset, roi.width, roi.height),
                (list(info.k), list(info.d), list(info.p)),
            ]
        )
        if seen == self._seen:
            return
        self._seen = seen
        try:
            camera = camera_of(info, self.rectified)
        except InputError as error:
            self._refused = str(error)
            raise
        if camera is None:
            self._refused = "the camera is uncalibrated (K is all zero); calibrate it"
            raise InputError("uncalibrated", self._refused)
        self._camera, self._fitted = camera, None
        self._refused = self._misfit = ""

    @property
    def problem(self) -> str:
        """Why the images have no usable model, for the diagnostics; empty when all is well."""
        return self._refused or self._misfit

    def camera_for(self, height: int, width: int) -> Camera | None:
        """The model of images of this size, or None when there is none.

        Raises:
            InputError: ``camera_info_size`` when the sizes have different aspect ratios; it stays
                the :attr:`problem` until an image fits.
        """
        fitted = self._fitted
        if fitted is None or (fitted.height, fitted.width) != (height, width):
            self._fitted, self._misfit = None, ""
            try:
                self._fitted = self.model_at(height, width, "images")
            except InputError as error:
                self._misfit = str(error)
                raise
        return self._fitted

    def model_at(self, height: int, width: int, what: str) -> Camera | None:
        """The model resized for ``what`` has this size, or None when there is none.

        Raises:
            InputError: ``camera_info_size`` when the sizes have different aspect ratios.
        """
        camera = self._camera
        if camera is None or (camera.height, camera.width) == (height, width):
            return camera
        if abs(camera.width * height / (camera.height * width) - 1.0) > _SAME_ASPECT:
            raise InputError(
                "camera_info_size",
                f"camera_info is of {camera.width}x{camera.height} px but the {what} have "
                f"{width}x{height} px, another shape; set region of interest or binning in "
                "camera_info, or remap the matching one",
            )
        return camera.resized(width, height)

    @property
    def resized_from(self) -> tuple[int, int] | None:
        """(width, height) of the camera_info when the images have another size, else None."""
        if self._camera is None or self._fitted is None or self._fitted is self._camera:
            return None
        return (self._camera.width, self._camera.height)
