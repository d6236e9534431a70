import time


def wait_for_the_answer():
    while True:
        time.sleep(0.1)


print("waiting", flush=True)
wait_for_the_answer()
