blocks = []
while True:
    blocks.append(bytearray(b"x" * 2**20 * 16))
