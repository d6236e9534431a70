from tqdm import tqdm

total = 0
for number in tqdm(range(2000), desc="adding"):
    total += number
print("total", total)
