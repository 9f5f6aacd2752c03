"""Selection strategies once more, slowly: lists, loops and sets, from their definitions (docs/reference/strategies.md).

Everything is plain Python on lists of numbers, apart from the keys by which tokens of equal rights are sorted, which
are float32 as in the package, so that both see the same ties. A view's tokens are numbered from 0, and ties go to the
lower number.
"""

import math

import numpy as np

OFFICIAL_LOCAL = {"coarse": ((48, 24), (38, 19)), "fine": ((30, 15), (24, 12))}
"""Of the first view and of the others: layer 1, layer 2."""
OFFICIAL_GLOBAL = {"coarse": (24 // 2, 19 // 2), "fine": (15 // 2, 12 // 2)}
OFFICIAL_ALIKE = {"coarse": (236, 230), "fine": (240, 236)}
OFFICIAL_SIMILARITY = (0.986, 0.98)


def best(scores, count):
    """The numbers of the `count` highest scores."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:count]


def random_static(noise, keep):
    """noise: of every view a list. Set of (view, token)."""
    return {(v, i) for v, row in enumerate(noise) for i in sorted(range(len(row)), key=lambda i: row[i])[:keep]}


def local_static(scores, keep):
    """scores[layer][view]. The union grows by the next rank of every layer until it is full."""
    kept = set()
    for v in range(len(scores[0])):
        mine, orders = set(), [best(layer[v], len(layer[v])) for layer in scores]
        for rank in range(len(orders[0])):
            for token in sorted({order[rank] for order in orders}):
                if len(mine) < keep:
                    mine.add(token)
        kept |= {(v, i) for i in mine}
    return kept


def fastv_static(scores, keep):
    """The highest of all views together, in the last layer before the prune."""
    flat = [(v, i) for v, row in enumerate(scores[-1]) for i in range(len(row))]
    return set(sorted(flat, key=lambda token: -scores[-1][token[0]][token[1]])[: keep * len(scores[-1])])


def official_sets(scores, last_attention, similarity, mode):
    """The released code's sets at the paper's setting, of views of 256 patches: view -> name -> tokens."""
    views = []
    for v in range(len(scores[0])):
        which = min(v, 1)
        local = {i for layer in (0, 1) for i in best(scores[layer][v], OFFICIAL_LOCAL[mode][which][layer])}
        past = set()
        for layer in last_attention or []:
            there = [i for i in best(layer[v], len(layer[v])) if layer[v][i] > -math.inf]
            past |= set(there[: OFFICIAL_GLOBAL[mode][which]])
        changed = set()
        if similarity is not None and similarity[v][0] < math.inf:
            alike = best(list(similarity[v]), OFFICIAL_ALIKE[mode][which])
            stays = {i for i in alike if similarity[v][i] >= OFFICIAL_SIMILARITY[which]}
            changed = set(range(len(similarity[v]))) - stays
        views.append({"local": local, "global": past, "changed": changed})
    return views


def official_kept(scores, last_attention, similarity, mode, keep):
    """Under a fixed budget, of every view: tokens in more of its sets go first, then those that stand further in front
    of theirs, as a share of the set's count; of the rest the same by local attention alone."""
    kept = []
    for v, sets in enumerate(official_sets(scores, last_attention, similarity, mode)):
        which, count = min(v, 1), len(scores[0][v])

        def places(values, members, size, count=count):
            order = best(values, count)
            return {i: np.float32(order.index(i) + 1) * np.float32(1 / size) for i in range(count) if i in members}

        everyone = set(range(count))
        sizes = OFFICIAL_LOCAL[mode][which]
        local = [places(scores[layer][v], everyone, sizes[layer]) for layer in (0, 1)]
        shares = {i: [min(layer[i] for layer in local)] for i in everyone}
        for layer in last_attention or []:
            for i, share in places(layer[v], sets["global"], OFFICIAL_GLOBAL[mode][which]).items():
                shares[i].append(share)
        if similarity is not None:
            least = 256 - OFFICIAL_ALIKE[mode][which]
            for i, share in places([-s for s in similarity[v]], sets["changed"], least).items():
                shares[i].append(share)

        def key(i, sets=sets, shares=shares):
            votes = sum(i in members for members in sets.values())
            share = min(min(shares[i]), np.float32(1)) if votes else min(shares[i])
            return np.float32(4 * votes) - share

        kept.append(set(sorted(everyone, key=lambda i: -key(i))[:keep]))
    return kept


def official_confidence(attention, first, count):
    """attention[head][row][key]. 1 / (entropy / log n) of the visual keys, rows averaged over heads, mean over rows."""
    heads, rows = len(attention), len(attention[0])
    entropies = []
    for t in range(rows):
        row = [sum(attention[h][t][first + i] for h in range(heads)) / heads for i in range(count)]
        total = sum(row)
        entropies.append(-sum(p / total * math.log(p / total) for p in row if p > 0))
    return 1 / (sum(entropies) / rows / math.log(count) + 1e-6)


class OfficialImportance:
    """S by original token, as a dictionary."""

    def __init__(self, visual):
        self.value = dict.fromkeys(range(visual), 0.0)

    def update(self, attention, kept):
        """attention[head][row][key], BOS first and then the tokens of `kept`."""
        heads, rows = len(attention), len(attention[0])
        score = [sum(attention[h][t][1 + c] for h in range(heads) for t in range(rows)) for c in range(len(kept))]
        rank = {c: place for place, c in enumerate(best(score, len(score)))}
        weights = [1 / (1 + math.exp(rank[c])) for c in range(len(kept))]
        confidence = official_confidence(attention, 1, len(kept))
        for c, token in enumerate(kept):
            self.value[token] = 0.8 * self.value[token] + 0.2 * weights[c] / sum(weights) * confidence

    def select(self, kept, count):
        """Of the original numbers `kept`, those that stay, sorted."""
        return sorted(sorted(kept, key=lambda token: -self.value[token])[:count])
