import requests

response = requests.get("https://example.com/data.json", timeout=5)
response.raise_for_status()
print(response.json())
