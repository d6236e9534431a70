def share(total, people):
    return total / people


def report(rows):
    shares = []
    for total, people in rows:
        shares.append(share(total, people))
    return shares


print(report([(10, 2), (7, 0)]))
