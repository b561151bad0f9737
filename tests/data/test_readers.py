"""The readers of pairs."""

from collections import Counter

from dped_lib.data import readers, rig


def test_the_rig_is_aligned_not_told(monkeypatch):
    """Known geometry judges the rig's alignment; it must not make it."""
    scene = rig.scenes()[0]
    monkeypatch.setattr(rig, "scenes", lambda: (scene,))
    frames = rig.shoot(scene.name, cameras=("iphone", "dslr"))
    blind = {c: rig.Frame(f.camera, f.scene, f.image, f.jpeg, None) for c, f in frames.items()}
    monkeypatch.setattr(rig, "shoot", lambda name, cameras: blind)
    assert len(list(readers.read_rig("iphone", Counter(), Counter()))) > 10
