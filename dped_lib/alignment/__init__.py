"""Turn two photographs of a scene into aligned patch pairs (paper, sections 2 and 3.2.1).

In the paper's order:

1. ``keypoints.detect`` and ``keypoints.match`` find and match SIFT keypoints.
2. ``aligner.align`` estimates the homography by RANSAC.
3. ``refinement.refine`` makes it accurate (``pair_map.fit``, and ``fit_surface`` for scenes with depth). The paper has no
   such step.
4. ``aligner.align`` crops both photographs to their intersection and to the largest rectangle of the requested aspect
   ratio, and resamples them.
5. ``extraction.extract`` moves each window of the phone's image to the place of the highest cross-correlation with the
   DSLR's. It keeps the pairs above 0.9 (``paper.NCC_THRESHOLD``) whose fine detail agrees.

``geometry`` holds the homographies, lenses, rectangles and resampling that these steps share.
"""
