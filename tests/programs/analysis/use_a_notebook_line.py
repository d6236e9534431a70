!pip install pandas
import pandas as pd
