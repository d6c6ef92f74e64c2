"""CIRKD, pixel by pixel, with queues that are lists of rows."""

import math

from torch import Tensor

Row = list[float]


def unit(row: Row) -> Row:
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


def pixels(image: Tensor) -> list[Row]:
    """Unit vectors of a map C,H,W, row by row."""
    return [unit(vector.tolist()) for vector in image.flatten(1).T]


def similarities(row: Row, keys: list[Row], temperature: float) -> list[float]:
    powers = [math.exp(sum(a * b for a, b in zip(row, key, strict=True)) / temperature) for key in keys]
    return [power / sum(powers) for power in powers]


def divergence(student: Row, student_keys: list[Row], teacher: Row, teacher_keys: list[Row], t: float) -> float:
    q, p = similarities(student, student_keys, t), similarities(teacher, teacher_keys, t)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def between_images(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """The mini-batch term of maps B,C,H,W."""
    s, t = [pixels(image) for image in student], [pixels(image) for image in teacher]
    found = [
        divergence(s[i][k], s[j], t[i][k], t[j], temperature)
        for i in range(len(s))
        for j in range(len(s))
        for k in range(len(s[i]))
    ]
    return sum(found) / len(found)


class Queue:
    """One class's rows, replaced from the front on; what would reach the end fills it up from behind."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows, self.at = rows, 0

    def push(self, rows: list[Row]) -> None:
        if self.at + len(rows) >= len(self.rows):
            self.rows[len(self.rows) - len(rows) :] = rows
            self.at = 0
        else:
            self.rows[self.at : self.at + len(rows)] = rows
            self.at += len(rows)


def enqueue(
    regions: list[Queue], queue: list[Queue], teacher: Tensor, labels: Tensor, draws: Tensor, most: int
) -> None:
    """Image by image, class by class. Draws B,classes,P: the least of the first n, n pixels of a class, are taken."""
    for image, of_pixels, of_classes in zip(teacher, labels.tolist(), draws.tolist(), strict=True):
        vectors = pixels(image)
        for label in sorted({label for label in of_pixels if 0 <= label < len(queue)}):
            mine = [vector for vector, other in zip(vectors, of_pixels, strict=True) if other == label]
            regions[label].push([unit([sum(column) for column in zip(*mine, strict=True)])])
            order = sorted(range(len(mine)), key=lambda place, drawn=of_classes[label]: drawn[place])
            queue[label].push([vectors[place] for place in order[:most]])


def against(
    student: Tensor, teacher: Tensor, labels: Tensor, queue: list[Queue], rows: list[int], temperature: float
) -> float:
    """A memory term of maps B,C,H,W and labels B,P, against the same rows of every class."""
    keys = [part.rows[row] for part in queue for row in rows]
    found = [
        divergence(s, keys, t, keys, temperature)
        for image_s, image_t, of_pixels in zip(student, teacher, labels.tolist(), strict=True)
        for s, t, label in zip(pixels(image_s), pixels(image_t), of_pixels, strict=True)
        if 0 <= label < len(queue)
    ]
    return sum(found) / len(found)
