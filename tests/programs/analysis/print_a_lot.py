for number in range(20_000):
    print(f"row {number}: {number * number}")
