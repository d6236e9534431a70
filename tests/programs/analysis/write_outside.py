with open("/usr/result.txt", "w") as file:
    file.write("42")
