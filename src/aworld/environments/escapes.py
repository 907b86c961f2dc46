async def try_all(sandbox, limits):
    return []
