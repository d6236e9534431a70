"""Names of common distributions, to be offered where an unknown one was asked for; none is ever installed for that."""

import difflib
import re

from packaging.utils import canonicalize_name

_OFFERED = 3
# Of difflib's ratio: `requets` is this close to `requests`, `foo` to nothing.
_CLOSE = 0.8

# What is imported by a name under which the index has nothing, or a stand-in, or something else.
_IMPORTED = {
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "crypto": ("pycryptodome",),
    "cv2": ("opencv-python-headless", "opencv-python"),
    "dateutil": ("python-dateutil",),
    "discord": ("discord-py",),
    "docx": ("python-docx",),
    "dotenv": ("python-dotenv",),
    "faiss": ("faiss-cpu",),
    "fitz": ("pymupdf",),
    "git": ("gitpython",),
    "github": ("pygithub",),
    "jose": ("python-jose",),
    "jwt": ("pyjwt",),
    "magic": ("python-magic",),
    "mpl-toolkits": ("matplotlib",),
    "mysqldb": ("mysqlclient", "pymysql"),
    "openssl": ("pyopenssl",),
    "pil": ("pillow",),
    "pptx": ("python-pptx",),
    "serial": ("pyserial",),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "skopt": ("scikit-optimize",),
    "slugify": ("python-slugify",),
    "speech-recognition": ("speechrecognition",),
    "telegram": ("python-telegram-bot",),
    "umap": ("umap-learn",),
    "usb": ("pyusb",),
    "whisper": ("openai-whisper",),
    "win32api": ("pywin32",),
    "win32com": ("pywin32",),
    "yaml": ("pyyaml",),
    "zmq": ("pyzmq",),
}

# Of the 15 000 that https://hugovk.github.io/top-pypi-packages lists as most downloaded: the first 760 without whole
# families that only their own users need, and from further down what programs for data, science and documents use.
COMMON = """
    absl-py accelerate adal adjusttext aenum agate aioboto3 aiofile aiofiles aiohttp aiohttp-retry aioitertools
    aiosignal aiosqlite alembic alive-progress alpha-vantage altair amqp annotated-doc annotated-types ansible
    anthropic antlr4-python3-runtime anyio appdirs apscheduler arcade arch argcomplete argon2-cffi arrow arviz ase
    asgiref asn1crypto ast-serialize astor astral astroid astropy async-lru async-timeout asyncpg attrs authlib avro
    awscli awswrangler axiom-py azure-identity azure-storage-blob babel backoff backtrader basemap
    bayesian-optimization bcrypt beartype beautifulsoup4 billiard biopython bitstring black bleach blinker bokeh
    boto3 bottleneck bracex brotli build bytecode cachecontrol cachetools cadquery caio cairocffi cairosvg cartopy
    catboost cattrs cbor2 ccxt celery certifi cffi cfn-lint chardet charset-normalizer chromadb click
    click-didyoumean click-plugins click-repl cloudpickle cloudscraper cohere colorama coloredlogs colorlog comm
    confluent-kafka construct contextily contourpy control convertdate corner coverage crc32c croniter cryptography
    cssselect2 cvxopt cvxpy cwsandbox cycler cyclopts cython cytoolz dacite dash dask dataclasses-json datadog
    datasets dateparser db-dtypes ddtrace deap debugpy decorator deepdiff defusedxml deprecated deprecation
    diffusers dill dipy discord-py diskcache distlib distributed distro django djangorestframework dnspython docker
    docopt docstring-parser docutils drawsvg duckdb easyocr ecdsa elastic-transport elasticsearch email-validator
    emcee emoji entrypoints envier ephem equinox events exceptiongroup execnet ezdxf fabric factory-boy faiss-cpu
    faker fakeredis fastapi fastapi-cli fastavro fastcore fastjsonschema fastmcp fastparquet fastuuid feedparser
    ffmpeg-python filelock filetype filterpy fiona fire flake8 flask flask-cors flask-login flask-sqlalchemy
    flask-wtf flatbuffers flax flit-core folium fonttools fpdf2 fredapi freezegun frozendict frozenlist fsspec ftfy
    future fuzzywuzzy gcsfs gensim geopandas geopy gevent ghapi gitpython gmpy2 google-api-python-client google-auth
    google-cloud-bigquery google-cloud-storage google-genai google-generativeai gputil gradio graphene graphql-core
    graphql-relay graphviz great-expectations greenlet griffelib groq grpcio gspread gtts gunicorn gymnasium h11 h2
    h3 h5py hatchling hdbscan holidays hpack html2text html5lib httpcore httplib2 httptools httpx httpx-sse
    huggingface-hub humanfriendly humanize hvac hyperframe hyperlink hyperopt hypothesis icalendar id idna igraph
    ijson imagehash imageio imageio-ffmpeg imbalanced-learn importlib-metadata importlib-resources inflection
    iniconfig invoke ipykernel ipython ipython-pygments-lexers ipywidgets iso8601 isodate isort itsdangerous jax
    jaxlib jedi jeepney jellyfish jinja2 jira jiter jmespath joblib joserfc json5 jsonlines jsonpatch jsonpath-ng
    jsonpointer jsonref jsonschema jsonschema-path jsonschema-specifications junitparser jupyter jupyterlab kaleido
    keras keyring kivy kiwisolver kombu kubernetes lancedb langchain langchain-community langchain-core
    langchain-openai langdetect langgraph langsmith lark lazy-object-proxy libcst librosa librt lifelines lightgbm
    lightning lime limits linkify-it-py litellm llvmlite lockfile loguru lunardate lxml lxml-html-clean lz4 mako
    markdown markdown-it-py markdownify markupsafe marshmallow mashumaro matplotlib matplotlib-inline
    matplotlib-venn mccabe mdanalysis mdit-py-plugins mdurl mechanize mediapipe mido mimesis mip missingno mistralai
    mistune mlflow mmh3 mne modal modin more-itertools moto motor moviepy mplfinance mpmath msgpack msgspec msrest
    msrestazure multidict multiprocess music21 mutagen mypy mypy-extensions mysql-connector-python mysqlclient
    narwhals natsort nbclient nbconvert nbformat nest-asyncio netaddr netcdf4 networkx nevergrad newspaper3k nh3
    nibabel nicegui nilearn ninja nltk notebook notebook-shim notion-client numba numexpr numpy numpy-stl
    oauth2client oauthlib ollama omegaconf onnxruntime open3d openai openai-agents openai-whisper openapi-pydantic
    openapi-schema-validator openapi-spec-validator opencv-contrib-python opencv-python opencv-python-headless
    openpyxl opensearch-py optax optuna ordered-set orderly-set orjson ormsgpack ortools outcome overrides packaging
    paddleocr pandas pandas-datareader pandas-profiling pandas-ta pandocfilters paramiko parsedatetime parso passlib
    pathable pathspec patsy pdf2image pdfminer-six pdfplumber peewee peft pendulum pettingzoo pexpect pg8000
    phonenumbers pillow pillow-heif ping3 pingouin pint pip pkginfo platformdirs playwright plotly plotnine pluggy
    ply pmdarima poetry polars polars-runtime-32 portalocker posthog praw pre-commit pretty-midi prettytable
    prometheus-client prompt-toolkit propcache prophet protobuf psutil psycopg psycopg-binary psycopg2
    psycopg2-binary ptyprocess pulp py py-cpuinfo py4j pyarrow pyarrow-hotfix pyaudio pyautogui pycairo pycodestyle
    pycountry pycparser pycryptodome pycryptodomex pydantic pydantic-settings pydicom pydot pydub pyee pyflakes
    pygad pygame pygithub pyglet pygments pyhumps pyiceberg pyjwt pykalman pylint pymc pymongo pymssql pymupdf
    pymysql pynacl pynput pyodbc pyomo pyopenssl pyparsing pypdf pypdf2 pypdfium2 pyperclip pyproj pyqt5 pyqt6
    pyright pyroaring pyrsistent pyscipopt pyserial pyside6 pysocks pyspark pytesseract pytest pytest-asyncio
    pytest-cov pytest-mock pytest-xdist python-barcode python-dateutil python-discovery python-docx python-dotenv
    python-gitlab python-igraph python-jose python-json-logger python-levenshtein python-magic python-multipart
    python-pptx python-sat python-slugify python-telegram-bot pytimeparse pytokens pytorch-lightning pyttsx3 pytz
    pyusb pyvis pyvista pywavelets pywin32 pyyaml pyzbar pyzmq qrcode quantlib rapidfuzz rasterio ray rdkit
    readme-renderer realtime redis redshift-connector referencing regex rembg reportlab requests requests-aws4auth
    requests-file requests-html requests-oauthlib requests-toolbelt responses retry retrying rich rich-click
    rich-rst rich-toolkit rpds-py rsa rtree ruamel-yaml ruff s3fs safetensors scapy schedule scikit-bio scikit-image
    scikit-learn scikit-optimize scipy scrapy seaborn secretstorage segno selenium semantic-version semgrep semver
    send2trash sendgrid sentence-transformers sentencepiece sentry-sdk setproctitle setuptools setuptools-scm sglang
    sgp4 shap shapely shellingham simple-salesforce simpleitk simplejson simpy six sktime skyfield slack-sdk
    smart-open sniffio snowballstemmer sortedcontainers sounddevice soundfile soupsieve spacy speechrecognition
    speedtest-cli sphinx sqlalchemy sqlalchemy-bigquery sqlglot sqlmodel sqlparse squarify sse-starlette
    stable-baselines3 starlette statsmodels stevedore streamlit strictyaml stripe structlog svgpathtools svgwrite
    swebench sweetviz sympy synchronicity ta tableauserverclient tables tabulate tenacity tensorflow termcolor
    terminado textblob texttable textual thefuzz threadpoolctl tiktoken time-machine timm tinycss2 tldextract
    tokenizers toml tomli tomli-w tomlkit toolz torch torchaudio torchmetrics torchvision tornado tox tqdm traitlets
    transformers trimesh trio trio-websocket triton tsfresh tweepy twilio twine typedload typeguard typer typer-slim
    typing-extensions typing-inspect typing-inspection tzdata tzlocal uc-micro-py ujson ultralytics umap-learn
    uncalled-for unidecode unidiff universal-pathlib urllib3 uuid-utils uv uv-build uvicorn uvloop validators
    vcs-versioning vega-datasets vine virtualenv vobject vosk watchdog watchfiles wcmatch wcwidth webcolors
    websocket-client websockets werkzeug wheel widgetsnbextension wikipedia-api wordcloud wrapt wsproto wxpython
    xarray xgboost xlrd xlsxwriter xlwt xmltodict xxhash yamllint yarl ydata-profiling ydb yfinance z3-solver zarr
    zeep zipp zstandard
"""


def near(name: str) -> list[str]:
    """Names of common distributions that whoever wrote `name` may have meant, the likeliest first; often none."""
    name = canonicalize_name(name)
    if name in _IMPORTED:
        return list(_IMPORTED[name])
    every = COMMON.split()
    same = [common for common in every if _bare(common) == _bare(name)]
    close = difflib.get_close_matches(name, every, n=_OFFERED, cutoff=_CLOSE)
    return [common for common in dict.fromkeys([*same, *close]) if common != name][:_OFFERED]


def stands_in_for(name: str) -> list[str]:
    """The distributions that are meant when one of this name is asked for that exists, but only as a stand-in."""
    return list(_IMPORTED.get(canonicalize_name(name), ()))


def _bare(name: str) -> str:
    """`opencv-python` and `OpenCV`, `scikit-learn` and `scikitlearn` are the same when only their letters count."""
    return re.sub(r"^python-|-python$|-", "", name)
