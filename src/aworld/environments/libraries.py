"""What the agent's code may import besides Python's own: the modules of the packages in `containers/environment.txt`.

The environment image has nothing else. The other sandboxes see all that is installed here, and show the code these
alone: a benchmark is the same on every site.
"""

LIBRARIES = tuple(
    """
    PIL _cffi_backend _sounddevice _yaml annotated_types anyio attr attrs av certifi cffi chardet charset_normalizer
    chess click colorlog contourpy cryptography cv2 cycler dateutil docx et_xmlfile flatbuffers fontTools google h11
    httpcore2 httpx2 idna isympy jsonschema jsonschema_specifications jwt kiwisolver lxml matplotlib mcp mcp_types
    mpl_toolkits mpmath multipart networkx numpy omegaconf onnxruntime openpyxl opentelemetry packaging pandas
    pocketsphinx pptx pyclipper pycparser pydantic pydantic_core pylab pyparsing pypdf python_multipart rapidocr
    referencing requests rpds scipy shapely six sounddevice sse_starlette starlette sympy tqdm truststore
    typing_extensions typing_inspection tzdata urllib3 uvicorn xlsxwriter yaml
    """.split()
)
