"""What people call the methods that draw heatmaps; `attribution`, which draws them, takes seconds to import."""

from __future__ import annotations

TITLES = {
    "hires_cam": "HiResCAM",
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "Integrated Gradients",
    "gradient_shap": "GradientShap",
    "smooth_grad": "SmoothGrad",
    "occlusion": "Occlusion",
}
"""What people call the methods."""

DEFAULT = "hires_cam"
"""What people see first: Grad-CAM's map where one linear layer follows a mean, and a faithful one elsewhere."""
