import asyncio


async def fetch(name, delay):
    await asyncio.sleep(delay)
    return f"{name} after {delay}"


await asyncio.gather(*(fetch(name, n / 100) for n, name in enumerate("abc", 1)))
