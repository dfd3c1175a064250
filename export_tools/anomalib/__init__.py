"""Models that anomalib 2.x exported, wrapped as bundles: picture in, score and map out.

Both engines' modules are loaded first: they keep the libraries they are about from reporting to
their makers, which works only before those are imported.
"""

import edge_sdk.engines.onnxruntime
import edge_sdk.engines.openvino  # noqa: F401 - see above
