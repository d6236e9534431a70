from PIL import Image, ImageDraw

image = Image.new("RGB", (120, 80), "white")
ImageDraw.Draw(image).ellipse((20, 10, 100, 70), fill="navy")
image.save("ellipse.png")
image
