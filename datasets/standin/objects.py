"""Everyday things as lists of parts; a thing is posed, coloured and drawn in front of a ground.

A part consists of a role, a shape and numbers. The role selects a colour of the palette. The shape is `e`, an ellipse
(x, y, rx, ry), `p`, a polygon of (x, y) pairs, or `l`, a line with its width first, then (x, y) pairs. The frame is
-1..1 with y down; later parts cover earlier ones.
"""

import numpy as np

from visual_decathlon.datasets.standin.canvas import Colour, Pen, backdrop, colour, light, mixed, pattern

Part = tuple[str, str, tuple[float, ...]]

_DRAWN = """
fish: accent p .45 0 1 -.45 .9 0 1 .45; accent p -.2 -.3 .25 -.65 .3 -.2; body e -.1 0 .75 .42;
    white e -.5 -.1 .12 .12; dark e -.5 -.1 .06 .06; accent p -.1 .05 .25 .3 .25 -.05
bird: accent p .4 .1 1 -.1 .95 .25; body e .05 .1 .55 .35; body e -.45 -.3 .27 .26;
    bright p -.68 -.38 -1 -.22 -.68 -.18; dark e -.52 -.35 .06 .06; accent p -.2 0 .6 -.1 .4 .3 0 .3;
    dark l .06 -.05 .4 -.1 .8; dark l .06 .2 .4 .2 .8
butterfly: body e -.45 -.35 .42 .42; body e .45 -.35 .42 .42; accent e -.35 .4 .3 .35; accent e .35 .4 .3 .35;
    white e -.5 -.35 .14 .14; white e .5 -.35 .14 .14; dark e 0 0 .09 .6; dark l .04 0 -.5 -.2 -.9;
    dark l .04 0 -.5 .2 -.9
snail: accent p -1 .6 -.9 .1 -.7 .1 -.6 .4 .9 .5 .9 .7 -.9 .7; body e .15 0 .6 .58; dark e .15 0 .42 .4;
    body e .15 .03 .32 .3; dark e .17 .05 .16 .15; dark l .05 -.8 .15 -.9 -.3; dark l .05 -.75 .15 -.65 -.3
turtle: accent e -.8 .1 .22 .18; accent e -.4 .45 .2 .14; accent e .45 .45 .2 .14; accent p .6 .2 1 .35 .6 .4;
    body p -.7 .35 -.5 -.2 -.1 -.45 .3 -.4 .6 -.1 .75 .35; dark l .06 -.3 -.3 -.2 .3; dark l .06 .25 -.35 .25 .3;
    dark e -.85 .05 .04 .04
spider: dark l .07 0 0 -.5 -.8 -.95 -.5; dark l .07 0 0 -.5 -.35 -.95 -.05; dark l .07 0 0 -.5 .1 -.95 .4;
    dark l .07 0 0 -.5 .5 -.95 .8; dark l .07 0 0 .5 -.8 .95 -.5; dark l .07 0 0 .5 -.35 .95 -.05;
    dark l .07 0 0 .5 .1 .95 .4; dark l .07 0 0 .5 .5 .95 .8; body e 0 .25 .36 .42; accent e 0 -.25 .22 .2
ladybug: dark l .08 -.5 -.3 -.95 -.2; dark l .08 -.5 .1 -.95 .2; dark l .08 -.5 .5 -.95 .6; dark l .08 .5 -.3 .95 -.2;
    dark l .08 .5 .1 .95 .2; dark l .08 .5 .5 .95 .6; dark e 0 -.6 .32 .28; body e 0 .1 .68 .68;
    dark l .05 0 -.5 0 .75; dark e -.33 -.2 .13 .13; dark e -.33 .3 .13 .13; dark e .33 -.2 .13 .13;
    dark e .33 .3 .13 .13
house: body p -.7 -.1 .7 -.1 .7 .85 -.7 .85; accent p -.95 -.05 0 -.85 .95 -.05;
    dark p -.12 .35 .18 .35 .18 .85 -.12 .85; bright p -.55 .1 -.25 .1 -.25 .4 -.55 .4;
    bright p .3 .1 .58 .1 .58 .4 .3 .4; accent p .4 -.8 .6 -.8 .6 -.4 .4 -.4
car: body p -.95 .4 -.95 .05 -.5 0 -.25 -.4 .4 -.4 .65 0 .95 .1 .95 .4; bright p -.38 0 -.18 -.3 .05 -.3 .05 0;
    bright p .12 0 .12 -.3 .35 -.3 .5 0; dark e -.55 .4 .22 .22; dark e .55 .4 .22 .22; white e -.55 .4 .09 .09;
    white e .55 .4 .09 .09
sailboat: white p -.05 -.95 -.05 .3 -.75 .3; accent p .08 -.7 .08 .3 .65 .3; dark l .05 0 -.95 0 .45;
    body p -.9 .42 .9 .42 .6 .8 -.65 .8
airliner: accent p .6 -.05 .95 -.6 .8 -.6 .4 -.1; body e 0 0 .95 .17; accent p -.1 .02 .2 .02 .55 .65 .35 .65;
    dark l .05 -.6 -.03 .6 -.03
mug: dark e .6 0 .35 .4; ground e .6 0 .2 .25; body p -.6 -.6 .55 -.6 .48 .7 -.53 .7; accent e -.03 -.6 .58 .16;
    dark e -.03 -.58 .45 .1
bottle: body p -.3 .95 -.3 -.1 -.12 -.4 -.12 -.85 .12 -.85 .12 -.4 .3 -.1 .3 .95;
    bright p -.3 .15 .3 .15 .3 .6 -.3 .6; dark p -.14 -.98 .14 -.98 .14 -.8 -.14 -.8
clock: body e 0 0 .9 .9; white e 0 0 .74 .74; dark l .09 0 0 .05 -.55; dark l .09 0 0 .4 .15; dark e .62 0 .06 .06;
    dark e .44 .44 .06 .06; dark e 0 .62 .06 .06; dark e -.44 .44 .06 .06; dark e -.62 0 .06 .06;
    dark e -.44 -.44 .06 .06; dark e 0 -.62 .06 .06; dark e .44 -.44 .06 .06
umbrella: dark l .07 0 -.5 0 .8 .15 .9 .28 .75;
    body p -.95 .1 -.85 -.3 -.5 -.65 0 -.8 .5 -.65 .85 -.3 .95 .1 .6 -.05 .32 .1 0 -.05 -.32 .1 -.6 -.05;
    accent p -.32 .1 -.2 -.4 0 -.8 .2 -.4 .32 .1 0 -.05
mushroom: white p -.2 0 .2 0 .28 .85 -.28 .85; body p -.85 .1 -.7 -.4 -.3 -.7 .3 -.7 .7 -.4 .85 .1;
    white e -.4 -.25 .13 .11; white e .1 -.45 .12 .1; white e .45 -.15 .13 .1
apple: body e -.25 .1 .5 .65; body e .25 .1 .5 .65; dark l .08 0 -.45 .08 -.8; leaf e .33 -.72 .26 .12;
    white e -.42 -.12 .1 .18
tree: wood p -.12 .2 .12 .2 .18 .95 -.18 .95; leaf e -.35 -.05 .42 .4; leaf e .35 -.05 .42 .4; leaf e 0 -.45 .5 .48
fir: wood p -.1 .6 .1 .6 .1 .98 -.1 .98; leaf p -.75 .7 0 0 .75 .7; leaf p -.58 .2 0 -.5 .58 .2;
    leaf p -.4 -.3 0 -.97 .4 -.3
daisy: leaf l .1 0 0 .15 .98; body l .3 .25 0 .68 0; body l .3 .19 .16 .52 .44; body l .3 .04 .25 .12 .67;
    body l .3 -.12 .22 -.34 .59; body l .3 -.23 .09 -.64 .23; body l .3 -.23 -.09 -.64 -.23;
    body l .3 -.13 -.22 -.34 -.59; body l .3 .04 -.25 .12 -.67; body l .3 .19 -.16 .52 -.44; bright e 0 0 .26 .26
tulip: leaf l .1 0 0 .05 .98; leaf p .03 .9 .5 .1 .35 .75;
    body p -.45 -.8 -.2 -.5 0 -.9 .2 -.5 .45 -.8 .42 0 0 .25 -.42 0
key: body e -.55 0 .4 .38; ground e -.6 0 .18 .16; body l .16 -.2 0 .9 0; body l .15 .8 0 .8 .35;
    body l .15 .5 0 .5 .28
dog: body l .16 -.4 .2 -.4 .85; body l .16 -.2 .2 -.2 .85; body l .16 .35 .2 .35 .85; body l .16 .55 .2 .55 .85;
    body e .05 .1 .6 .28; body l .1 .6 0 .92 -.4; body e -.6 -.25 .28 .24; body e -.85 -.15 .18 .12;
    accent e -.45 -.3 .1 .24; dark e -.98 -.18 .06 .06; dark e -.65 -.32 .05 .05
cat: body e .1 .45 .42 .5; body l .12 .45 .8 .85 .5 .75 .1; body e -.1 -.3 .42 .38; body p -.5 -.4 -.45 -.9 -.15 -.6;
    body p .3 -.4 .25 -.9 -.05 -.6; bright e -.27 -.33 .09 .08; bright e .07 -.33 .09 .08; dark e -.1 -.15 .06 .05;
    dark e -.27 -.33 .03 .08; dark e .07 -.33 .03 .08
elephant: body l .2 -.3 .2 -.3 .85; body l .2 0 .2 0 .85; body l .2 .4 .2 .4 .85; body l .2 .65 .2 .65 .85;
    body e .2 0 .65 .45; body e -.5 -.15 .35 .36; body l .17 -.75 0 -.88 .4 -.8 .75; accent e -.28 -.15 .22 .32;
    white p -.7 .15 -.98 .3 -.7 .25; dark e -.6 -.2 .04 .04
giraffe: body l .1 -.2 .3 -.2 .95; body l .1 0 .3 0 .95; body l .1 .4 .3 .4 .95; body l .1 .55 .3 .55 .95;
    bright e .18 .25 .48 .22; bright p -.3 .25 .02 .2 -.38 -.75 -.55 -.7; bright e -.55 -.78 .22 .13;
    wood e 0 .2 .09 .08; wood e .25 .15 .09 .08; wood e .45 .3 .09 .08; wood e .15 .38 .09 .08; wood e -.2 0 .09 .08;
    wood e -.32 -.35 .09 .08
rabbit: body e .15 .4 .5 .42; white e .68 .5 .14 .14; body e -.35 -.05 .3 .28; body e -.35 -.6 .1 .36;
    body e -.12 -.55 .1 .36; accent e -.35 -.6 .04 .25; dark e -.45 -.1 .05 .05; accent e -.1 .8 .25 .1
crab: accent l .09 -.4 .2 -.8 .2 -.9 .45; accent l .09 -.4 .2 -.8 .45 -.9 .7; accent l .09 -.4 .2 -.8 .65 -.9 .9;
    accent l .09 .4 .2 .8 .2 .9 .45; accent l .09 .4 .2 .8 .45 .9 .7; accent l .09 .4 .2 .8 .65 .9 .9;
    body l .13 -.4 0 -.75 -.35; body l .13 .4 0 .75 -.35; body p -.6 -.3 -.55 -.8 -.75 -.5 -.95 -.75 -.9 -.3;
    body p .6 -.3 .55 -.8 .75 -.5 .95 -.75 .9 -.3; body e 0 .2 .58 .38; dark e -.18 -.1 .07 .09;
    dark e .18 -.1 .07 .09
bicycle: dark e -.55 .35 .42 .42; dark e .55 .35 .42 .42; ground e -.55 .35 .31 .31; ground e .55 .35 .31 .31;
    body l .09 -.55 .35 -.2 -.2 .4 -.2 .05 .35 -.55 .35; body l .09 -.2 -.2 .05 .35;
    body l .09 .55 .35 .35 -.45 .55 -.5; dark l .12 -.4 -.35 -.1 -.35
bus: body p -.95 -.55 .9 -.55 .95 -.4 .95 .45 -.95 .45; bright p -.85 -.4 -.55 -.4 -.55 -.05 -.85 -.05;
    bright p -.45 -.4 -.15 -.4 -.15 -.05 -.45 -.05; bright p -.05 -.4 .25 -.4 .25 -.05 -.05 -.05;
    bright p .35 -.4 .65 -.4 .65 -.05 .35 -.05; accent p -.95 .1 .95 .1 .95 .22 -.95 .22; dark e -.55 .47 .2 .2;
    dark e .55 .47 .2 .2
rocket: accent p -.25 .3 -.6 .8 -.2 .65; accent p .25 .3 .6 .8 .2 .65; bright p -.15 .65 .15 .65 0 .98;
    body p -.25 .65 -.3 0 -.2 -.5 0 -.95 .2 -.5 .3 0 .25 .65; white e 0 -.25 .14 .14; dark e 0 -.25 .09 .09
castle:
    body p -.85 .9 -.85 -.5 -.65 -.5 -.65 -.3 -.5 -.3 -.5 -.5 -.3 -.5 -.3 .1 .3 .1 .3 -.5 .5 -.5 .5 -.3
    .65 -.3 .65 -.5 .85 -.5 .85 .9;
    dark e 0 .75 .2 .32; dark p -.63 0 -.5 0 -.5 .25 -.63 .25; dark p .5 0 .63 0 .63 .25 .5 .25;
    accent p 0 -.6 .35 -.45 0 -.3; dark l .05 0 -.6 0 .1
bridge: body p -1 .1 1 .1 1 .3 -1 .3; accent p -.5 -.7 -.35 -.7 -.35 .8 -.5 .8; accent p .35 -.7 .5 -.7 .5 .8 .35 .8;
    dark l .06 -1 .1 -.42 -.65 -.2 -.2 0 -.05 .2 -.2 .42 -.65 1 .1; dark l .04 -.2 -.1 -.2 .1; dark l .04 0 -.1 0 .1;
    dark l .04 .2 -.1 .2 .1
telephone: body p -.6 -.1 .6 -.1 .8 .8 -.8 .8; accent l .26 -.7 -.25 -.5 -.5 .5 -.5 .7 -.25; white e 0 .35 .36 .34;
    dark e 0 .35 .14 .13
pear: body e 0 .35 .55 .52; body e 0 -.25 .32 .42; dark l .08 0 -.6 .1 -.95; leaf e .3 -.8 .22 .1
worm: body l .25 -.85 .3 -.6 -.15 -.3 -.2 -.05 .15 .2 .35 .5 .1 .75 -.3; dark e .75 -.35 .06 .06
rose: leaf l .1 0 .2 .05 .98; leaf e .3 .65 .25 .12; body e 0 -.2 .6 .58; accent e .06 -.24 .42 .4;
    body e .1 -.2 .3 .28; accent e .08 -.24 .15 .14
sunflower: leaf l .12 0 0 0 .98; bright l .3 .4 0 .78 0; bright l .3 .35 .19 .69 .36; bright l .3 .23 .33 .44 .64;
    bright l .3 .05 .4 .09 .77; bright l .3 -.14 .37 -.28 .73; bright l .3 -.3 .27 -.58 .52;
    bright l .3 -.39 .1 -.76 .19; bright l .3 -.39 -.1 -.76 -.19; bright l .3 -.3 -.27 -.58 -.52;
    bright l .3 -.14 -.37 -.28 -.73; bright l .3 .05 -.4 .09 -.77; bright l .3 .23 -.33 .44 -.64;
    bright l .3 .35 -.19 .69 -.36; wood e 0 0 .46 .46
television: dark l .05 -.1 -.5 -.45 -.95; dark l .05 .1 -.5 .45 -.95; body p -.85 -.5 .85 -.5 .85 .7 -.85 .7;
    bright p -.7 -.37 .4 -.37 .4 .55 -.7 .55; dark e .62 -.15 .1 .1; dark e .62 .2 .1 .1
skyscraper: body p -.35 .98 -.35 -.6 -.15 -.75 0 -.98 .15 -.75 .35 -.6 .35 .98;
    bright p -.25 -.5 -.11 -.5 -.11 -.37 -.25 -.37; bright p -.25 -.2 -.11 -.2 -.11 -.07 -.25 -.07;
    bright p -.25 .1 -.11 .1 -.11 .23 -.25 .23; bright p -.25 .4 -.11 .4 -.11 .53 -.25 .53;
    bright p -.25 .7 -.11 .7 -.11 .83 -.25 .83; bright p -.05 -.5 .09 -.5 .09 -.37 -.05 -.37;
    bright p -.05 -.2 .09 -.2 .09 -.07 -.05 -.07; bright p -.05 .1 .09 .1 .09 .23 -.05 .23;
    bright p -.05 .4 .09 .4 .09 .53 -.05 .53; bright p -.05 .7 .09 .7 .09 .83 -.05 .83;
    bright p .14 -.5 .28 -.5 .28 -.37 .14 -.37; bright p .14 -.2 .28 -.2 .28 -.07 .14 -.07;
    bright p .14 .1 .28 .1 .28 .23 .14 .23; bright p .14 .4 .28 .4 .28 .53 .14 .53;
    bright p .14 .7 .28 .7 .28 .83 .14 .83
ballplayer: dark l .2 -.12 .2 -.2 .55 -.25 .92; dark l .2 .12 .2 .22 .55 .3 .92;
    body p -.28 -.45 .28 -.45 .2 .3 -.2 .3; body l .13 -.25 -.4 -.42 -.1 -.3 .15; body l .13 .25 -.4 .45 -.15 .4 .1;
    skin e 0 -.68 .16 .2; accent e 0 -.8 .18 .1
street sign: wood l .1 0 -.2 0 .98; body p -.45 -.9 .45 -.9 .45 -.3 -.45 -.3; white p -.3 -.7 .3 -.7 .3 -.55 -.3 -.55
fruit: body e 0 .05 .8 .78; white e -.35 -.3 .12 .18; wood l .08 0 -.65 .08 -.9
blossom: body l .3 .2 0 .72 0; body l .3 .1 .17 .36 .62; body l .3 -.1 .17 -.36 .62; body l .3 -.2 0 -.72 0;
    body l .3 -.1 -.17 -.36 -.62; body l .3 .1 -.17 .36 -.62; bright e 0 0 .24 .24
"""


def _parsed(table: str) -> dict[str, list[Part]]:
    """The parts of each object by name; an indented line continues the object above it."""
    objects = {}
    for entry in table.strip().replace("\n   ", "").splitlines():
        name, parts = entry.split(": ")
        words = [part.split() for part in parts.split(";")]
        objects[name] = [(role, shape, tuple(map(float, numbers))) for role, shape, *numbers in words]
    return objects


OBJECTS = _parsed(_DRAWN)


def palette(rng: np.random.Generator, body: Colour) -> dict[str, Colour]:
    """A colour for each role: the parts of one thing differ clearly, leaves are green and wood is brown."""
    shift = rng.uniform(0.45, 0.8)
    return {
        "body": body,
        "accent": mixed(body, colour(rng), shift),
        "dark": colour(rng, saturation=(0, 0.5), value=(0.02, 0.25)),
        "white": colour(rng, saturation=(0, 0.12), value=(0.85, 1)),
        "bright": colour(rng, (0.1, 0.17), (0.5, 0.9), (0.8, 1)),
        "leaf": colour(rng, (0.22, 0.42), (0.4, 0.9), (0.25, 0.65)),
        "skin": colour(rng, (0.04, 0.09), (0.3, 0.6), (0.4, 0.95)),
        "wood": colour(rng, (0.04, 0.1), (0.4, 0.8), (0.25, 0.55)),
        "ground": colour(rng),
    }


def draw_parts(
    pen: Pen, rng: np.random.Generator, name: str, colours: dict[str, Colour], jitter: float = 0.035
) -> None:
    """Draws the object at the pen's place, with `jitter` added to its numbers: no two examples are equal."""
    for role, shape, numbers in OBJECTS[name]:
        values = np.array(numbers)
        values += rng.normal(0, jitter, len(values)) * (np.abs(values) > 0.02)
        if shape == "e":
            pen.ellipse(*values[:2], *np.abs(values[2:]), colours[role])
        elif shape == "p":
            pen.polygon(values.reshape(-1, 2), colours[role])
        else:
            pen.line(values[1:].reshape(-1, 2), numbers[0], colours[role])


def scene(
    rng: np.random.Generator,
    name: str,
    width: int,
    height: int,
    body: Colour,
    surface: str,
    size=(0.6, 1.05),
    turn=0.35,
) -> np.ndarray:
    """One object (H, W, 3) with a body colour and a surface pattern, in a random pose on a cluttered ground."""
    ground = backdrop(rng, width, height)
    pen = Pen(width, height)
    colours = palette(rng, body)
    colours["ground"] = tuple(int(c) for c in np.clip(ground.mean((0, 1)), 0, 255))
    x_room = max(0.15, width / min(width, height) - 0.8)
    y_room = max(0.15, height / min(width, height) - 0.8)
    pen.place(
        rng.uniform(-x_room, x_room), rng.uniform(-y_room, y_room), rng.uniform(*size), rng.normal(0, turn),
        rng.uniform(0.75, 1.25), rng.normal(0, 0.12), rng.random() < 0.5,
    )  # fmt: skip
    draw_parts(pen, rng, name, colours)
    shade = pattern(rng, surface, width, height) * light(rng, width, height)
    return pen.over(ground, shade)
