"""What an encoder sees before it sees a factory: drawn surfaces of any kind, with marks of any kind on them.

The renderer of `inspection/render` draws two parts as they are; a network that learnt on them knows brushed sheet and
weld beads. Here nothing looks like a part, and everything looks like something: a network that tells these textures and
marks apart has features for parts nobody has drawn (Kataoka et al. 2020 and Baradad et al. 2021 learn to see from
fractals, noise and dead leaves; marks with outlines are ours, for that is what the encoder will be asked for).

    textures.py   seven families of grey texture
    marks.py      six kinds of defect, each with its outline
    surface.py    one picture: textures side by side, print, marks, light, a camera
    run.py        an endless course of them, and the run that learns it
"""
